"""Ensuring that one API process uses a SQLite file."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from job_engine.errors import ConfigurationError


@contextmanager
def sole_owner(store_url: str) -> Iterator[None]:
    """Lock a SQLite file against other API processes of this machine; other databases are shared.

    Event streams of another process would not notice this one's commits, so jobs and cancels
    would be late. Raises `ConfigurationError` while another process holds the lock, which ends
    with the process.
    """
    file = _sqlite_file(store_url)
    if file is None:
        yield
        return
    lock = f"{file}.lock"
    try:
        os.makedirs(os.path.dirname(lock) or ".", mode=0o700, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"The store cannot be in {file}: {error.strerror}. Name a directory that this user "
            "may write with --data-dir (JOB_ENGINE_DATA_DIR)."
        ) from error
    with os.fdopen(descriptor):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"Another API process serves {file}. Stop that one, name another --data-dir, or "
                "put the store into PostgreSQL, which several may share (docs/operator.md)."
            ) from None
        yield


def _sqlite_file(store_url: str) -> str | None:
    try:
        url = make_url(store_url)
    except ArgumentError:
        return None  # the error of opening it will say why
    return url.database if url.get_backend_name() == "sqlite" else None
