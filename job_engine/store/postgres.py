"""PostgreSQL: several API processes on one database, whose writers take turns.

A write transaction begins by taking an advisory lock that it holds until it is committed,
so at any time one process of all writes, as on SQLite, and each sees what the one before it
did: what a unit has read cannot change under it, and event ids become visible in order.
Units that wait share a transaction. docs/decisions/0013 says why. What a unit writes is
gathered, and goes to the server together (`sending.py`).

Reads are snapshots on connections of their own, and wait for nobody. What a commit
announced is told to the other processes by NOTIFY, in that very transaction.

Tested against PostgreSQL 15, with psycopg 3.3.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from psycopg import errors as pg
from sqlalchemy import URL, Connection, Engine, RootTransaction
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from job_engine.errors import InvalidResourceError, JobEngineError, StoreError
from job_engine.log import get_logger
from job_engine.store.base import Database, T, Unit
from job_engine.store.group_commit import Apart, Batch, Task, Writer
from job_engine.store.many import SENDING
from job_engine.store.migrate import upgrade
from job_engine.store.notices import Notices
from job_engine.store.sending import BatchError, LateError, Role, Sending

log = get_logger(__name__)

BUSY_TIMEOUT_S: Final = 30.0
"""Seconds to wait for another process that writes, or for a connection."""
MAX_BATCH: Final = 64
"""Most units that share a commit: so many savepoints of a transaction a server keeps at hand."""
READERS: Final = 8
"""Connections for reading; further readers wait for one."""
READ_LIMIT_S: Final = 10.0
"""Seconds that one statement of a read may take: a search that takes longer would hold
everybody's up."""
PAUSE_LIMIT_S: Final = 10.0
"""Seconds that a process may be silent within a transaction: then the server ends it, so that
one which was paused, or cut off, holds the others up no longer."""
FIRST_WAIT_S: Final = 0.05
"""Seconds, at most, until it is tried a second time."""
ATTEMPTS: Final = 5
"""How often a transaction is tried that the server gave up, or that lost its connection."""

_CONNECT: Final = {
    "connect_timeout": 30,
    "application_name": "job-engine",
    # Half a minute after a cable was pulled, it is noticed.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,
}

_WRITING: Final = 0x6A6F_6265_6E67_696E
"""Key of the lock of who writes ("jobengin"); advisory locks are each database's own."""


class PostgresDatabase(Database):
    """A store that several processes share."""

    def __init__(self, url: URL) -> None:
        super().__init__()
        self._url = url.set(drivername="postgresql+psycopg")
        self._reads = _engine(self._url, READERS, _ready_to_read)
        self._writes = _engine(self._url, 1, _ready_to_write)
        _gather(self._writes)
        self._listens = _engine(self._url, 0, _ready_to_listen)
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
            raise StoreError(f"Cannot open the store {where}: {_reason_of(error)}") from error
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

        return self.glance(on_a_snapshot)

    def glance(self, unit: Unit[T]) -> T:
        """Run a unit of a single statement, which is its own transaction: one way to the server."""

        def attempt() -> T:
            with self._reads.begin() as connection:
                return unit(connection)

        try:
            # After the server was restarted, every connection is found to be lost once.
            return _persistently(attempt, _is_lost)
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            raise _explained(error) from error

    def submit(self, unit: Unit[T]) -> Future[T]:
        """Queue `unit` for the writer."""
        return self._writer.submit(unit)

    def write(self, unit: Unit[T]) -> T:
        """Run `unit` and return its result once that is durable."""
        return self._writer.run(unit)

    def _commit(self, tasks: Sequence[Task]) -> None:
        batch = Batch(tasks, _explained, _undoes_all)
        apart = _apart

        def attempt() -> None:
            nonlocal apart
            try:
                self._try(batch, apart)
            except LateError:
                apart = _told_at_once  # the next time, whose failure it is comes out
                raise

        try:
            _persistently(attempt, _may_run_again)
        except Exception as error:  # noqa: BLE001 - the server is gone, or the like: tell all
            log.error("store.commit_failed", error=_reason_of(error), units=len(batch))
            batch.refuse(error)
        # Listeners first: whoever waits for the result may look for the event at once.
        if batch.topics:
            self._publish(batch.topics)
        batch.answer()

    def _try(self, batch: Batch, apart: Apart) -> None:
        if self._connection is None:
            self._connection = self._writes.connect()
        transaction = self._connection.begin()
        sending: Sending = self._connection.info[SENDING]
        try:
            sending.add(Role.TURN, *_TURN)
            self._connection.info["fresh"] = True
            batch.run(self._connection, apart)
            if not sending.begun:
                # Or a connection that was lost long ago would be found out in the commit.
                sending.flush()
        except BaseException as error:
            sending.clear()
            _undo(transaction, error)
            raise
        try:
            sending.add(Role.END, *self._notices.saying(batch.topics), "COMMIT")
            sending.flush()
        except Exception as error:
            _undo(transaction, error)
            # Ended for its silence, it was before it heard of the commit.
            if _is_lost(error) and not isinstance(
                _cause(error), pg.IdleInTransactionSessionTimeout
            ):
                raise _OutcomeUnknownError from error
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
    """Begin, and wait until no other process writes; from then on, this one does.

    Until the commit, or the end of the connection.
    """
    connection.exec_driver_sql("; ".join(_TURN))


def _gather(engine: Engine) -> None:
    """Give each connection what gathers its statements; SQLAlchemy's own go after what waits."""

    def connected(raw: Any, record: Any) -> None:
        record.info[SENDING] = Sending(raw)

    def executing(connection: Connection, *_statement: Any) -> None:
        connection.info[SENDING].flush()

    sa.event.listen(engine, "connect", connected)
    sa.event.listen(engine, "before_cursor_execute", executing)


def _undo(transaction: RootTransaction, error: BaseException) -> None:
    """Roll back, and have the next transaction connect again where the connection is lost."""
    if _is_lost(error):
        transaction.connection.invalidate(error)
    transaction.rollback()


@contextmanager
def _apart(connection: Connection) -> Iterator[None]:
    """Undo what fails in the block, and only that."""
    sending: Sending = connection.info[SENDING]
    if not connection.info.pop("fresh", False):
        sending.add(Role.TURN, "RELEASE SAVEPOINT unit", "SAVEPOINT unit")
    raw: Any = connection.connection.driver_connection
    try:
        yield
        if raw.info.transaction_status is psycopg.pq.TransactionStatus.INERROR:
            # Going on, the server would answer the commit with a rollback, and no error.
            raise StoreError("A statement failed, and who ran it did not say so.")
        sending.end_unit()
    except Exception as error:
        if raw.closed:
            raise _ConnectionLostError from error
        sending.drop_unit()
        sending.add(Role.TURN, "ROLLBACK TO SAVEPOINT unit")
        raise


@contextmanager
def _told_at_once(connection: Connection) -> Iterator[None]:
    """Do as `_apart`; all of the block has failed where something of it does."""
    with _apart(connection):
        yield
        connection.info[SENDING].flush()


# --- connections ------------------------------------------------------------------


def _engine(url: URL, connections: int, ready: Callable[[Any], None]) -> Engine:
    """Return an engine with so many connections; 0: with one for each time it is asked."""
    pool: dict[str, Any] = {"poolclass": sa.NullPool}
    if connections:
        pool = {"pool_size": connections, "max_overflow": 0, "pool_timeout": BUSY_TIMEOUT_S}
    engine = sa.create_engine(
        url,
        connect_args=_CONNECT,
        json_serializer=_dump_json,
        # Values are people's, and digests of their passwords: no error may repeat them.
        hide_parameters=True,
        **pool,
    )
    sa.event.listen(engine, "connect", lambda raw, _record: ready(raw))
    return engine


def _ready_to_read(raw: Any) -> None:
    _set(raw, statement_timeout=READ_LIMIT_S, idle_in_transaction_session_timeout=PAUSE_LIMIT_S)
    raw.execute("SET default_transaction_isolation = 'repeatable read'")
    raw.execute("SET default_transaction_read_only = on")
    raw.commit()
    # The driver's own transactions begin with a way to the server of their own, wanted or not.
    raw.autocommit = True


def _ready_to_write(raw: Any) -> None:
    _set(raw, lock_timeout=BUSY_TIMEOUT_S, idle_in_transaction_session_timeout=PAUSE_LIMIT_S)
    # Whatever is the server's default: what is answered is on its disk.
    raw.execute(
        "SELECT set_config('synchronous_commit', 'on', false) "
        "WHERE current_setting('synchronous_commit') = 'off'"
    )
    raw.commit()
    # The driver's own transactions begin with a way to the server of their own.
    raw.autocommit = True


def _ready_to_listen(raw: Any) -> None:
    raw.autocommit = True


def _set(raw: Any, **limits_s: float) -> None:
    for name, limit_s in limits_s.items():
        raw.execute(f"SET {name} = {round(limit_s * 1000)}")
    # Compiling a search of a person's takes longer than running it.
    raw.execute("SET jit = off")
    raw.commit()


# --- errors -----------------------------------------------------------------------


class _ConnectionLostError(StoreError):
    """The connection to the database was lost, and with it what was not committed."""


class _OutcomeUnknownError(StoreError):
    """The connection was lost while the database committed; ask again to see what is there."""


def _persistently(attempt: Callable[[], T], which: Callable[[BaseException], bool]) -> T:
    """Try, and some times more after an error of `which`."""
    again = Retrying(
        retry=retry_if_exception(which),
        stop=stop_after_attempt(ATTEMPTS),
        # At once, it would meet again whom it has just made way for.
        wait=wait_random_exponential(multiplier=FIRST_WAIT_S, max=2.0),
        reraise=True,
    )
    return again(attempt)


def _cause(error: BaseException) -> BaseException:
    """Return the driver's own error."""
    if isinstance(error, BatchError):
        return _cause(error.cause)
    return error.orig or error if isinstance(error, sa.exc.DBAPIError) else error


def _is_lost(error: BaseException) -> bool:
    """Whether the connection is gone, or there was none to be had."""
    cause = _cause(error)
    if isinstance(cause, _ConnectionLostError | pg.IdleInTransactionSessionTimeout):
        return True
    if not isinstance(cause, psycopg.OperationalError) or isinstance(cause, pg.QueryCanceled):
        return False
    return cause.sqlstate is None or cause.sqlstate[:2] in ("08", "57")


def _undoes_all(error: BaseException) -> bool:
    """Whether with a unit all of its transaction is over, and not only that part of it."""
    return isinstance(error, BatchError) or _is_given_up(error)


def _is_given_up(error: BaseException) -> bool:
    return isinstance(
        _cause(error), _ConnectionLostError | pg.SerializationFailure | pg.DeadlockDetected
    )


def _may_run_again(error: BaseException) -> bool:
    """Whether nothing was committed, for a reason that may have passed."""
    return isinstance(error, LateError) or _is_given_up(error) or _is_lost(error)


def _reason_of(error: Exception) -> str:
    """Say what the server said, without statements and values."""
    cause = _cause(error)
    if isinstance(cause, psycopg.Error) and cause.diag.message_primary:
        return cause.diag.message_primary
    return str(cause).strip()


def _explained(error: Exception) -> Exception:
    """Return what somebody is told who asked for what failed so."""
    cause = _cause(error)
    match cause:
        case sa.exc.TimeoutError():
            return StoreError(
                "The store is busy: too many searches at once. Try again in a moment."
            )
        case pg.QueryCanceled():
            return StoreError(
                f"The search took longer than {READ_LIMIT_S:.0f} s; narrow it, by `created` "
                "for one."
            )
        case pg.LockNotAvailable():
            return StoreError("The store is locked by another process that writes.")
        case psycopg.DataError():
            return InvalidResourceError(f"This cannot be stored: {_reason_of(error)}")
        case psycopg.IntegrityError() | JobEngineError():
            return error
        case psycopg.Error():
            return StoreError(f"The store cannot answer: {_reason_of(error)}")
    return error


def _dump_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
