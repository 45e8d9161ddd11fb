"""SQLite: one file, one writer thread with group commit, a few reading connections.

WAL with `synchronous=FULL`, so a commit is on disk when it returns, and one commit
serves every write that arrived meanwhile: durability costs one fsync a batch, not one a
job. With a single writer, commits are serialised, so event ids become visible in order.

Tested against SQLite 3.40.
"""

from __future__ import annotations

import json
import math
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from job_engine.errors import StoreError
from job_engine.log import get_logger
from job_engine.store.base import Database, T, Unit
from job_engine.store.migrate import upgrade

log = get_logger(__name__)

BUSY_TIMEOUT_S: Final = 30.0
"""Seconds to wait for another process that writes."""
MAX_BATCH: Final = 256
"""Most units that share a commit; bounds how long the first of them waits."""
READERS: Final = 8
"""Connections for reading; further readers wait for one."""
READ_LIMIT_S: Final = 10.0
"""Seconds that one read may take: a search that takes longer would hold everybody's up."""
_LIMIT_CHECKED_EVERY: Final = 100_000
"""Steps of SQLite's machine, some milliseconds, between two looks at the clock."""


@dataclass(frozen=True)
class _Task:
    unit: Unit[Any]
    future: Future[Any]


class SqliteDatabase(Database):
    """The store of one machine, in one file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._reads = _engine(path, "BEGIN", readers=READERS)
        _limit_reads(self._reads)
        self._writes = _engine(path, "BEGIN IMMEDIATE", readers=1)
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._run, name="store-writer", daemon=True)
        # Taken to submit, so that nothing is queued behind the order to stop.
        self._gate = threading.Lock()
        self._open = False

    def start(self) -> None:
        """Create or upgrade the file, then start the writer."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            # It holds digests of passwords and the key that signs sessions.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            upgrade(self._writes)
        except (sa.exc.SQLAlchemyError, OSError) as error:
            self._dispose()
            raise StoreError(f"Cannot open the store {self._path}: {error}") from error
        self._open = True
        self._writer.start()

    def stop(self) -> None:
        """Commit what was submitted, then close."""
        with self._gate:
            was_open, self._open = self._open, False
            if was_open:
                self._tasks.put(None)
        if was_open:
            self._writer.join()
        self._dispose()

    def read(self, unit: Unit[T]) -> T:
        """Run `unit` in a deferred transaction: a snapshot, which blocks no writer."""
        try:
            with self._reads.begin() as connection:
                return unit(connection)
        except (sa.exc.OperationalError, sa.exc.TimeoutError) as error:
            raise _store_error(error) from error

    def submit(self, unit: Unit[T]) -> Future[T]:
        """Queue `unit` for the writer."""
        future: Future[T] = Future()
        with self._gate:
            if not self._open:
                raise StoreError("The store is closed.")
            self._tasks.put(_Task(unit, future))
        return future

    def _run(self) -> None:
        with self._writes.connect() as connection:
            stopping = False
            while not stopping:
                batch, stopping = self._next_batch()
                if batch:
                    self._commit(connection, batch)

    def _next_batch(self) -> tuple[Sequence[_Task], bool]:
        """Wait for a task, then take what else is there. True: no further batch."""
        batch: list[_Task] = []
        task = self._tasks.get()
        while task is not None:
            batch.append(task)
            if len(batch) == MAX_BATCH:
                return batch, False
            try:
                task = self._tasks.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _commit(self, connection: Connection, batch: Sequence[_Task]) -> None:
        done: list[tuple[Future[Any], Any]] = []
        failed: list[tuple[Future[Any], Exception]] = []
        topics: set[str] = set()
        try:
            with connection.begin():
                for task in batch:
                    if task.future.set_running_or_notify_cancel():
                        _run_unit(connection, task, done, failed, topics)
        except Exception as error:  # noqa: BLE001 - the disk is full, or the like: tell all
            log.error("store.commit_failed", error=repr(error), units=len(batch))
            # Those too that were not run, since the transaction could not even begin.
            told = {future for future, _ in failed}
            refusal = _store_error(error)
            failed += [(t.future, refusal) for t in batch if t.future not in told]
            done, topics = [], set()
        # Listeners first: whoever waits for the result may look for the event at once.
        if topics:
            self._publish(frozenset(topics))
        for future, result in done:
            future.set_result(result)
        for future, reason in failed:
            if not future.cancelled():
                future.set_exception(reason)

    def _dispose(self) -> None:
        self._reads.dispose()
        self._writes.dispose()


def _run_unit(
    connection: Connection,
    task: _Task,
    done: list[tuple[Future[Any], Any]],
    failed: list[tuple[Future[Any], Exception]],
    topics: set[str],
) -> None:
    """Run one unit under its savepoint, so that its failure is its own."""
    connection.info.pop("topics", None)
    try:
        with connection.begin_nested():
            result = task.unit(connection)
    except sa.exc.OperationalError as error:
        refusal = _store_error(error)
        refusal.__cause__ = error
        failed.append((task.future, refusal))
    except Exception as error:  # noqa: BLE001 - carried to who submitted the unit
        failed.append((task.future, error))
    else:
        done.append((task.future, result))
        topics |= connection.info.pop("topics", set())


def _engine(path: Path, begin: str, *, readers: int) -> Engine:
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        pool_size=readers,
        max_overflow=0,
        pool_timeout=BUSY_TIMEOUT_S,
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
        json_serializer=_dump_json,
        # Values are people's, and digests of their passwords: no error may repeat them.
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
        connection.exec_driver_sql(begin)

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
    # Before the listener that begins the transaction, which the last one would interrupt.
    sa.event.listen(engine, "begin", begun, insert=True)


def _store_error(error: Exception) -> StoreError:
    """Say what the database said, without its statements."""
    if isinstance(error, sa.exc.TimeoutError):
        return StoreError("The store is busy: too many searches at once. Try again in a moment.")
    reason = str(error.orig) if isinstance(error, sa.exc.DBAPIError) else str(error)
    if reason == "interrupted":
        return StoreError(
            f"The search took longer than {READ_LIMIT_S:.0f} s; narrow it, by `created` for one."
        )
    return StoreError(f"The store cannot answer: {reason}")


def _switch_to_wal(raw: Any) -> None:
    """Switch on the write-ahead log; of two processes that do so at once, one has to wait.

    SQLite does not wait by itself here, whatever its busy timeout says.
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


def _dump_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
