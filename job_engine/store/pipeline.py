"""Batches of statements for PostgreSQL, in libpq's pipeline mode.

A round trip to the server costs more than most statements. So the writes of a unit are queued
until it needs a result or is committed, and are sent together. Each statement is prepared once
for each connection. The server runs them in order; after one that fails it skips the rest, also
a COMMIT.

A queued statement may fail after its unit has returned, when the unit can no longer raise the
error. Then `LateError` is raised: the transaction is rolled back, and its units run again, each
with its queue sent before the next one runs.

Tested against PostgreSQL 15, with libpq 17.
"""

from __future__ import annotations

import math
import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.errors import InvalidSqlStatementName, error_from_result

from job_engine.errors import StoreError

Explain = Callable[[Exception], Exception]
"""Converts the driver's error into the one that the statement's unit raises."""

_FAILED: Final = (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.PIPELINE_ABORTED)
_BOOLEANS: Final = {True: b"t", False: b"f"}


class BatchError(StoreError):
    """An error that ends the whole transaction, because no unit of it can raise the error."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class LateError(BatchError):
    """A statement failed after its unit had returned."""


class ForgottenError(BatchError):
    """The server no longer has a prepared statement; the next attempt prepares all again.

    After a rollback, psycopg deallocates all prepared statements if it has prepared one itself.
    """


class Role(Enum):
    """The role of a statement in the transaction."""

    TURN = "turn"
    """Of the transaction itself: its beginning, its savepoints."""
    UNIT = "unit"
    """Of the unit that runs now."""
    LATE = "late"
    """Of a unit that has returned."""
    END = "end"
    """The commit, and the notifications before it."""


@dataclass
class _Item:
    sql: bytes
    values: Sequence[bytes | None] | None
    """Values of its parameters; None: it has none, and is not prepared."""
    role: Role
    explain: Explain


def _as_it_is(error: Exception) -> Exception:
    return error


class Pipeline:
    """The queue of statements of one connection; for one thread."""

    def __init__(self, raw: Any) -> None:
        """`raw` is psycopg's connection."""
        self._raw = raw
        self._pg: pq.abc.PGconn = raw.pgconn
        self._items: list[_Item] = []
        self._names: dict[bytes, bytes] = {}
        self._named = 0
        """Number of names used so far; a name is never used again, even if preparing failed."""
        self._answered_s = -math.inf

    # --- queueing ----------------------------------------------------------------

    def add(self, role: Role, *statements: str) -> None:
        """Queue statements without parameters."""
        self._items += [_Item(s.encode(), None, role, _as_it_is) for s in statements]

    def add_for_unit(self, sql: bytes, values: Sequence[Any], explain: Explain) -> None:
        """Queue a statement of the running unit. Raises the driver's `DataError` for a NUL."""
        self._items.append(_Item(sql, [_wire(v) for v in values], Role.UNIT, explain))

    def end_unit(self) -> None:
        """Mark the unit's queued statements as late, because it returns."""
        for item in self._items:
            if item.role is Role.UNIT:
                item.role = Role.LATE

    def drop_unit(self) -> None:
        """Remove the unit's queued statements."""
        self._items = [item for item in self._items if item.role is not Role.UNIT]

    def clear(self) -> None:
        """Empty the queue."""
        self._items = []

    @property
    def begun(self) -> bool:
        """Whether the beginning of the transaction was sent and answered."""
        return not any(item.role is Role.TURN for item in self._items[:1])

    def is_live(self, within_s: float) -> bool:
        """Return whether the server answered within `within_s`, and has not disconnected since."""
        is_fresh = time.monotonic() < self._answered_s + within_s
        # Between two batches the server sends data only when it ends the connection.
        return is_fresh and not self._poll(select.POLLIN, 0)

    # --- sending -----------------------------------------------------------------

    def execute(self, sql: bytes, values: Sequence[Any]) -> pq.abc.PGresult:
        """Send the queue and this statement of the unit; return its result.

        Raises `BatchError`, or the driver's error, converted by the statement's `explain`.
        """
        self.add_for_unit(sql, values, _as_it_is)
        result = self.flush()
        assert result is not None
        return result

    def rows(self, result: pq.abc.PGresult) -> list[tuple[Any, ...]]:
        """Return the rows of a result, with the driver's types."""
        transformer = Transformer(self._raw)
        transformer.set_pgresult(result)
        return list(transformer.load_rows(0, result.ntuples, tuple))

    def flush(self) -> pq.abc.PGresult | None:
        """Send the queue, and return the last statement's result; None: the queue was empty.

        Raises what `execute` raises; then the queue is empty, and the transaction has failed.
        """
        items, self._items = self._items, []
        if not items:
            return None
        self._pg.enter_pipeline_mode()
        try:
            expected = self._send(items)
            return self._collect(expected)
        finally:
            if self._pg.status == pq.ConnStatus.OK:
                self._pg.exit_pipeline_mode()

    def _send(self, items: Sequence[_Item]) -> list[tuple[_Item, bytes | None]]:
        """Pass the statements to libpq; return for each result its item and the prepared name."""
        expected: list[tuple[_Item, bytes | None]] = []
        names = dict(self._names)
        for item in items:
            if item.values is None:
                self._pg.send_query_params(item.sql, None)
            else:
                name = names.get(item.sql)
                if name is None:
                    self._named += 1
                    name = names[item.sql] = b"sent_%d" % self._named
                    self._pg.send_prepare(name, item.sql)
                    expected.append((item, name))
                self._pg.send_query_prepared(name, item.values)
            expected.append((item, None))
        self._pg.pipeline_sync()
        return expected

    def _collect(self, expected: Sequence[tuple[_Item, bytes | None]]) -> pq.abc.PGresult:
        """Read all results; raise the first error, else return the last result."""
        failed: tuple[_Item, Exception] | None = None
        last: pq.abc.PGresult | None = None
        try:
            self._write()
            for item, prepared in expected:
                last = self._next()
                if failed is None and last.status in _FAILED:
                    failed = (item, error_from_result(last, encoding="utf-8"))
                elif failed is None and prepared is not None:
                    self._names[item.sql] = prepared
                self._await_result()
                self._pg.get_result()  # None, which ends the results of this statement
            self._next()  # of the sync: all statements were answered
            self._answered_s = time.monotonic()
        except psycopg.OperationalError:
            if failed is None:  # else that error ended the connection
                raise
        if failed is not None and isinstance(failed[1], InvalidSqlStatementName):
            self._names = {}
            raise ForgottenError(failed[1])
        if failed is not None:
            raise _raised(*failed)
        assert last is not None
        return last

    def _write(self) -> None:
        """Send everything, and read meanwhile: otherwise both sides could wait for each other."""
        while self._pg.flush():
            if self._ready(select.POLLIN | select.POLLOUT) & select.POLLIN:
                self._pg.consume_input()

    def _next(self) -> pq.abc.PGresult:
        self._await_result()
        result = self._pg.get_result()
        if result is None:
            raise psycopg.OperationalError("the connection is lost")
        return result

    def _await_result(self) -> None:
        while self._pg.is_busy():
            self._ready(select.POLLIN)
            self._pg.consume_input()

    def _ready(self, events: int) -> int:
        ((_, found),) = self._poll(events)
        return found

    def _poll(self, events: int, timeout_ms: int | None = None) -> list[tuple[int, int]]:
        poll = select.poll()
        poll.register(self._pg.socket, events)
        return poll.poll(timeout_ms)


def _raised(item: _Item, error: Exception) -> Exception:
    match item.role:
        case Role.TURN:
            return BatchError(error)
        case Role.LATE:
            return LateError(error)
        case Role.END:
            return error
    return item.explain(error)


def _wire(value: Any) -> bytes | None:
    """Return a value in PostgreSQL's text format."""
    if value is None:
        return None
    if isinstance(value, str):
        if "\0" in value:
            raise psycopg.DataError("text with a NUL")
        return value.encode()
    if isinstance(value, bool):
        return _BOOLEANS[value]
    return repr(value).encode()  # a number
