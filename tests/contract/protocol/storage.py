"""Where the store of a schedule is kept, how it is copied, and how a copy is put back."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import AbstractContextManager, ExitStack
from functools import cache
from pathlib import Path
from typing import Protocol

from sqlalchemy import URL

from job_engine.store.factory import open_store
from tests import postgres


class Storage(Protocol):
    """A database, which nobody has open while it is copied or put back."""

    @property
    def url(self) -> str:
        """The database's URL."""

    def back_up(self) -> None:
        """Copy it."""

    def put_back(self) -> None:
        """Put the copy in its place."""

    def close(self) -> None:
        """Remove everything."""


@cache
def _with_tables() -> bytes:
    """A database with its tables: to make them anew takes longer than half a schedule."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "store.sqlite"
        store = open_store(f"sqlite:///{file}")
        store.start()
        store.stop()
        return file.read_bytes()


class File:
    """SQLite, in memory where that can be had."""

    def __init__(self) -> None:
        memory = Path("/dev/shm")
        self._directory = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        self._store = self._directory / "store.sqlite"
        self._copy = self._directory / "copy.sqlite"
        self._store.write_bytes(_with_tables())

    @property
    def url(self) -> str:
        """The file's URL."""
        return f"sqlite:///{self._store}"

    def back_up(self) -> None:
        """Copy the file."""
        shutil.copy(self._store, self._copy)

    def put_back(self) -> None:
        """Put the copy in its place, without what was written since."""
        for leftover in self._directory.glob("store.sqlite-*"):
            leftover.unlink()
        shutil.copy(self._copy, self._store)

    def close(self) -> None:
        """Remove the directory."""
        shutil.rmtree(self._directory)


class ServerDatabase:
    """A database of a PostgreSQL server, and another one for its copy."""

    def __init__(self, server: URL, template: str) -> None:
        self._server = server
        self._stores = ExitStack()
        self._copies = ExitStack()
        self._store = self._stores.enter_context(postgres.database(server, template))
        self._copy: URL | None = None

    @property
    def url(self) -> str:
        """The URL of the one that is in its place."""
        return postgres.text_of(self._store)

    def back_up(self) -> None:
        """Make a copy in place of an older one."""
        self._copies.close()
        self._copy = self._copies.enter_context(self._as(self._store))

    def put_back(self) -> None:
        """Have a copy of the copy in its place."""
        assert self._copy is not None
        self._stores.close()
        self._store = self._stores.enter_context(self._as(self._copy))

    def close(self) -> None:
        """Drop both."""
        self._copies.close()
        self._stores.close()

    def _as(self, other: URL) -> AbstractContextManager[URL]:
        assert other.database is not None
        return postgres.database(self._server, other.database)
