"""PostgreSQL: several API processes on one database, whose writers take turns.

A write transaction takes an advisory lock first, and holds it until the commit. So only one
process writes at any time, as on SQLite: rows that a unit has read do not change meanwhile, and
event ids become visible in order (docs/decisions/0013). Units that wait share a transaction
(`store/group_commit.py`), and the writes of a unit are sent together (`store/pipeline.py`).

Reads are snapshots on connections of their own, and wait for no lock. A commit sends the topics
that it announced to the other processes by NOTIFY, in the same transaction.

Tested against PostgreSQL 15, with psycopg 3.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from sqlalchemy import URL, Connection, Engine, RootTransaction

from job_engine.errors import StoreError
from job_engine.log import get_logger
from job_engine.store.base import Database, T, Unit
from job_engine.store.group_commit import Apart, Batch, Task, Writer
from job_engine.store.migrate import upgrade
from job_engine.store.pipeline import LateError, Pipeline, Role
from job_engine.store.postgres.connections import (
    make_engine,
    ready_to_listen,
    ready_to_read,
    ready_to_write,
)
from job_engine.store.postgres.errors import (
    ConnectionLostError,
    OutcomeUnknownError,
    explained,
    is_lost,
    may_run_again,
    persistently,
    reason_of,
    undoes_all,
    was_before_the_commit,
)
from job_engine.store.postgres.notices import Notices
from job_engine.store.prepared import PIPELINE

log = get_logger(__name__)

MAX_BATCH: Final = 64
"""Most units that share a commit: a server caches 64 subtransactions of a transaction."""
READERS: Final = 8
"""Connections for reading; further readers wait for one."""
FRESH_S: Final = 1.0
"""Seconds after an answer for which the connection counts as alive."""
_WRITING: Final = 0x6A6F_6265_6E67_696E
"""Key of the writers' advisory lock ("jobengin"), which is local to the database."""


class PostgresDatabase(Database):
    """A store that several processes share."""

    def __init__(self, url: URL) -> None:
        super().__init__()
        self._url = url.set(drivername="postgresql+psycopg")
        self._reads = make_engine(self._url, READERS, ready_to_read)
        self._writes = make_engine(self._url, 1, ready_to_write)
        _gather(self._writes)
        self._listens = make_engine(self._url, 0, ready_to_listen)
        self._notices = Notices(self._listens, self._publish)
        self._writer = Writer(self._commit, MAX_BATCH)
        self._connection: Connection | None = None

    def start(self) -> None:
        """Create or upgrade the schema, then start the writer."""
        try:
            with self._reads.begin() as connection:
                encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
            if encoding != "UTF8":
                raise StoreError(f"its encoding is {encoding}; make it with --encoding=UTF8")
            upgrade(self._writes, take_turn)
            self._notices.start()
        except (sa.exc.SQLAlchemyError, StoreError) as error:
            self._dispose()
            where = self._url.render_as_string(hide_password=True)
            raise StoreError(f"Cannot open the store {where}: {reason_of(error)}") from error
        self._writer.start()

    def stop(self) -> None:
        """Commit what was submitted, then close."""
        self._writer.stop()
        self._notices.stop()
        self._dispose()

    def read(self, unit: Unit[T]) -> T:
        """Run `unit` in a transaction that sees one snapshot, and blocks nobody."""

        def on_a_snapshot(connection: Connection) -> T:
            connection.exec_driver_sql("BEGIN")
            return unit(connection)

        return self.read_one(on_a_snapshot)

    def read_one(self, unit: Unit[T]) -> T:
        """Run a unit of a single statement, which is its own transaction: one way to the server."""

        def attempt() -> T:
            with self._reads.begin() as connection:
                return unit(connection)

        try:
            # After the server was restarted, every connection is found to be lost once.
            return persistently(attempt, is_lost)
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            raise explained(error) from error

    def submit(self, unit: Unit[T]) -> Future[T]:
        """Queue `unit` for the writer."""
        return self._writer.submit(unit)

    def write(self, unit: Unit[T]) -> T:
        """Run `unit` and return its result once that is durable."""
        return self._writer.run(unit)

    def _commit(self, tasks: Sequence[Task]) -> None:
        batch = Batch(tasks, explained, undoes_all)
        apart = _apart

        def attempt() -> None:
            nonlocal apart
            try:
                self._try(batch, apart)
            except LateError:
                apart = _flushed  # the next attempt then shows which unit fails
                raise

        try:
            persistently(attempt, may_run_again)
        except Exception as error:  # noqa: BLE001 - the server is gone, or the like: tell all
            if isinstance(error, OutcomeUnknownError):
                log.error("store.commit_unknown", units=len(batch))
            else:
                log.error("store.commit_failed", error=reason_of(error), units=len(batch))
            batch.refuse(error)
        # Listeners first, because a caller may look for the event as soon as it has the result.
        if batch.topics:
            self._publish(batch.topics)
        batch.answer()

    def _try(self, batch: Batch, apart: Apart) -> None:
        if self._connection is None:
            self._connection = self._writes.connect()
        transaction = self._connection.begin()
        pipeline: Pipeline = self._connection.info[PIPELINE]
        try:
            pipeline.add(Role.TURN, *_TURN)
            self._connection.info["fresh"] = True
            batch.run(self._connection, apart)
            if not pipeline.begun and not pipeline.is_live(FRESH_S):
                # Otherwise a connection that was lost earlier would be noticed in the commit,
                # whose outcome would then count as unknown.
                pipeline.flush()
        except BaseException as error:
            pipeline.clear()
            _undo(transaction, error)
            raise
        try:
            pipeline.add(Role.END, *self._notices.statements(batch.topics), "COMMIT")
            pipeline.flush()
        except Exception as error:
            _undo(transaction, error)
            if is_lost(error) and not was_before_the_commit(error):
                raise OutcomeUnknownError from error
            raise
        transaction.commit()

    def _dispose(self) -> None:
        if self._connection is not None:
            self._connection.close()
        for engine in (self._reads, self._writes, self._listens):
            engine.dispose()


# --- transactions that write ------------------------------------------------------

_TURN: Final = ("BEGIN", f"SELECT pg_advisory_xact_lock({_WRITING})", "SAVEPOINT unit")


def take_turn(connection: Connection) -> None:
    """Begin a transaction, and wait for the writers' lock, which is held until it ends."""
    connection.exec_driver_sql("; ".join(_TURN))


def _gather(engine: Engine) -> None:
    """Give each connection a `Pipeline`, which is flushed before SQLAlchemy's own statements."""

    def connected(raw: Any, record: Any) -> None:
        record.info[PIPELINE] = Pipeline(raw)

    def executing(connection: Connection, *_statement: Any) -> None:
        connection.info[PIPELINE].flush()

    sa.event.listen(engine, "connect", connected)
    sa.event.listen(engine, "before_cursor_execute", executing)


def _undo(transaction: RootTransaction, error: BaseException) -> None:
    """Roll back; if the connection is lost, the next transaction makes a new one."""
    if is_lost(error):
        transaction.connection.invalidate(error)
    transaction.rollback()


@contextmanager
def _apart(connection: Connection) -> Iterator[None]:
    """Run the block under a savepoint, so that its failure undoes the block alone."""
    pipeline: Pipeline = connection.info[PIPELINE]
    if not connection.info.pop("fresh", False):
        pipeline.add(Role.TURN, "RELEASE SAVEPOINT unit", "SAVEPOINT unit")
    raw: Any = connection.connection.driver_connection
    try:
        yield
        if raw.info.transaction_status is psycopg.pq.TransactionStatus.INERROR:
            # Otherwise the server would answer COMMIT with a rollback, without an error.
            raise StoreError("A statement failed, and the unit ignored its error.")
        pipeline.end_unit()
    except Exception as error:
        if raw.closed:
            raise ConnectionLostError from error
        pipeline.drop_unit()
        pipeline.add(Role.TURN, "ROLLBACK TO SAVEPOINT unit")
        raise


@contextmanager
def _flushed(connection: Connection) -> Iterator[None]:
    """Like `_apart`, and flush the queue, so that its errors are raised in the block."""
    with _apart(connection):
        yield
        connection.info[PIPELINE].flush()
