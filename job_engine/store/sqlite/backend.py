"""SQLite: one file, one writer thread with group commit, a few reading connections.

WAL with `synchronous=FULL`: a commit is on disk when it returns. One commit contains all writes
that arrived during the last one, so there is one fsync for a batch, not for each job. A single
writer serialises the commits, so event ids become visible in order.

Tested against SQLite 3.40.
"""

from __future__ import annotations

import math
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from job_engine.errors import StoreError
from job_engine.log import get_logger
from job_engine.store.base import Database, T, Unit, read_json, write_json
from job_engine.store.group_commit import Batch, Task, Writer
from job_engine.store.migrate import upgrade

log = get_logger(__name__)

BUSY_TIMEOUT_S: Final = 30.0
"""Seconds to wait for another process that writes."""
READERS: Final = 8
"""Connections for reading; further readers wait for one."""
READ_LIMIT_S: Final = 10.0
"""Longest time of one read, in seconds, because a slow search delays all others."""
LEAST_ROOM: Final = 2**20
"""Bytes of free disk below which an error of opening is reported as a full disk."""
_LIMIT_CHECKED_EVERY: Final = 100_000
"""Steps of SQLite's virtual machine (some milliseconds) between two checks of the time limit."""


class SqliteDatabase(Database):
    """The store of one machine, in one file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._reads = _engine(path, "BEGIN", readers=READERS)
        _limit_reads(self._reads)
        self._writes = _engine(path, "BEGIN IMMEDIATE", readers=1)
        self._connection: Connection | None = None
        self._writer = Writer(self._commit)

    def start(self) -> None:
        """Create or upgrade the file, then start the writer."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # It holds digests of passwords and the key that signs sessions.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            upgrade(self._writes)
        except (sa.exc.SQLAlchemyError, OSError, StoreError) as error:
            self._dispose()
            reason = f"{_reason_of(error)}{_advice(self._path.parent)}"
            raise StoreError(f"Cannot open the store {self._path}: {reason}") from error
        self._writer.start()

    def stop(self) -> None:
        """Commit what was submitted, then close."""
        self._writer.stop()
        self._dispose()

    def read(self, unit: Unit[T]) -> T:
        """Run `unit` in a deferred transaction: a snapshot, which blocks no writer."""
        try:
            with self._reads.begin() as connection:
                return unit(connection)
        except (sa.exc.OperationalError, sa.exc.TimeoutError, sqlite3.OperationalError) as error:
            raise _store_error(error) from error

    def submit(self, unit: Unit[T]) -> Future[T]:
        """Queue `unit` for the writer."""
        return self._writer.submit(unit)

    def write(self, unit: Unit[T]) -> T:
        """Run `unit` and return its result once that is durable."""
        return self._writer.run(unit)

    def _commit(self, tasks: Sequence[Task]) -> None:
        batch = Batch(tasks, _explained, lambda error: isinstance(error, _UndoneError))
        try:
            with self._writing().begin():
                batch.run(self._writing(), _apart)
        except Exception as error:  # noqa: BLE001 - the disk is full, or the like: tell all
            log.error("store.commit_failed", error=_reason_of(error), units=len(batch))
            batch.refuse(_store_error(error))
        # Listeners first, because a caller may look for the event as soon as it has the result.
        if batch.topics:
            self._publish(batch.topics)
        batch.answer()

    def _writing(self) -> Connection:
        if self._connection is None:
            self._connection = self._writes.connect()
        return self._connection

    def _dispose(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._reads.dispose()
        self._writes.dispose()


class _UndoneError(StoreError):
    """SQLite has undone the whole transaction, as it does after some errors such as a full disk."""


@contextmanager
def _apart(connection: Connection) -> Iterator[None]:
    """Run the block under a savepoint, so that its failure undoes the block alone."""
    raw: Any = connection.connection.driver_connection
    raw.execute("SAVEPOINT unit").close()
    try:
        yield
    except Exception as error:
        if not raw.in_transaction:
            raise _UndoneError(_store_error(error).message) from error
        raw.execute("ROLLBACK TO unit").close()
        raise
    raw.execute("RELEASE unit").close()


def _explained(error: Exception) -> Exception:
    return _store_error(error) if isinstance(error, sa.exc.OperationalError) else error


def _engine(path: Path, begin: str, *, readers: int) -> Engine:
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        pool_size=readers,
        max_overflow=0,
        pool_timeout=BUSY_TIMEOUT_S,
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
        json_serializer=write_json,
        json_deserializer=read_json,
        # Values may be personal data or digests of passwords, so errors must not contain them.
        hide_parameters=True,
    )

    def connected(raw: Any, _record: Any) -> None:
        # The driver's own transactions begin late and never IMMEDIATE; ours are explicit.
        raw.isolation_level = None
        _switch_to_wal(raw)
        for pragma in (
            "synchronous=FULL",
            "foreign_keys=ON",
            "temp_store=MEMORY",
        ):
            raw.execute(f"PRAGMA {pragma}").close()

    def begun(connection: Connection) -> None:
        # By the driver, because SQLAlchemy's `begin` takes as long as a small unit.
        raw: Any = connection.connection.driver_connection
        raw.execute(begin).close()

    sa.event.listen(engine, "connect", connected)
    sa.event.listen(engine, "begin", begun)
    return engine


def _limit_reads(engine: Engine) -> None:
    """Interrupt the statements of a read that takes too long."""

    def connected(raw: Any, record: Any) -> None:
        raw.set_progress_handler(
            lambda: time.monotonic() > record.info.get("deadline_s", math.inf),
            _LIMIT_CHECKED_EVERY,
        )

    def begun(connection: Connection) -> None:
        connection.info["deadline_s"] = time.monotonic() + READ_LIMIT_S

    sa.event.listen(engine, "connect", connected)
    # Inserted before the listener that begins the transaction: the last read's deadline would
    # interrupt BEGIN.
    sa.event.listen(engine, "begin", begun, insert=True)


def _store_error(error: Exception) -> StoreError:
    """Return the error with the database's message, without statements."""
    if isinstance(error, sa.exc.TimeoutError):
        return StoreError("The store is busy: too many searches at once. Try again in a moment.")
    reason = _reason_of(error)
    if reason == "interrupted":
        return StoreError(
            f"The search took longer than {READ_LIMIT_S:.0f} s; narrow it, by `created` for one."
        )
    return StoreError(f"The store cannot answer: {reason}")


def _reason_of(error: Exception) -> str:
    """Return SQLite's message, without statements and values."""
    return str(error.orig) if isinstance(error, sa.exc.DBAPIError) else str(error)


def _advice(directory: Path) -> str:
    """Return a hint if the disk is full, which SQLite reports as an I/O error when opening."""
    try:
        free = shutil.disk_usage(directory).free
    except OSError:
        return ""
    return f". Its disk has {free:,} bytes left: make room." if free < LEAST_ROOM else ""


def _switch_to_wal(raw: Any) -> None:
    """Enable the write-ahead log, and retry while another process does the same.

    SQLite's busy timeout does not apply here.
    """
    deadline_s = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            raw.execute("PRAGMA journal_mode=WAL").close()
        except sqlite3.OperationalError as error:
            locked = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not locked or time.monotonic() > deadline_s:
                raise
            time.sleep(0.01)
        else:
            return
