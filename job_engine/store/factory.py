"""Opens the store that a URL names, and imports only its backend."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from job_engine.errors import ConfigurationError, MissingDependencyError
from job_engine.store.base import Clock, Database, system_clock_ms
from job_engine.store.store import Store


def open_store(url: str, clock: Clock = system_clock_ms) -> Store:
    """Return the store that `url` names; `start()` it before use.

    `sqlite:////var/lib/job-engine/store.sqlite` is an absolute path, with three slashes
    a relative one; `postgresql://user@host/name` is a database that several processes may
    share. Raises `ConfigurationError` for a URL that names no known backend, and
    `MissingDependencyError` where the backend's driver is not installed.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigurationError(
            f"{url!r} is no database URL; write sqlite:////absolute/path/to/file."
        ) from error
    return Store(_database(parsed), clock)


def _database(url: URL) -> Database:
    if url.get_backend_name() == "sqlite":
        if not url.database or url.database == ":memory:":
            raise ConfigurationError("The store keeps its promises only in a file; name one.")
        from job_engine.store.sqlite.backend import SqliteDatabase

        return SqliteDatabase(Path(url.database))
    if url.get_backend_name() == "postgresql":
        if not importlib.util.find_spec("psycopg"):
            raise MissingDependencyError(
                "PostgreSQL needs its driver: pip install 'psycopg[binary]>=3.2'."
            )
        if not url.database:
            raise ConfigurationError("A PostgreSQL URL names a database: postgresql://HOST/NAME.")
        from job_engine.store.postgres.backend import PostgresDatabase

        return PostgresDatabase(url)
    raise ConfigurationError(
        f"No store for {url.get_backend_name()!r} databases; use sqlite:////path/to/file, "
        "or postgresql://USER@HOST/NAME."
    )
