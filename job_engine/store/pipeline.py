"""Batches of statements for PostgreSQL, in libpq's pipeline mode.

A round trip to the server costs more than most statements do. So a unit's writes are queued
here until it needs a result, or until it is committed, and are sent together, each prepared
once a connection. The server runs them in order, and skips what follows one that fails, a
COMMIT included.

A statement that a unit left in the queue may fail after the unit has returned, too late to
raise in it: then `LateError` has the whole transaction rolled back and its units run again,
the queue of each sent before the next one runs.

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
"""Makes of an error what the unit raises that asked for the statement."""

_FAILED: Final = (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.PIPELINE_ABORTED)
_BOOLEANS: Final = {True: b"t", False: b"f"}


class BatchError(StoreError):
    """A statement of the transaction itself failed, which is no unit's own failure."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class LateError(BatchError):
    """A statement failed whose unit had returned."""


class ForgottenError(BatchError):
    """The server no longer knows a statement that was prepared; the next try prepares all again.

    psycopg has it forget everything after a rollback, if it had prepared something itself.
    """


class Role(Enum):
    """Whose a statement is."""

    TURN = "turn"
    """The transaction's: its beginning, its savepoints."""
    UNIT = "unit"
    """The unit's that runs now."""
    LATE = "late"
    """One's that has returned."""
    END = "end"
    """The commit, and what goes with it."""


@dataclass
class _Item:
    sql: bytes
    values: Sequence[bytes | None] | None
    """None: it has no places for values, and is not worth preparing."""
    role: Role
    explain: Explain


def _as_it_is(error: Exception) -> Exception:
    return error


class Pipeline:
    """The statements that one connection has yet to send. Used by one thread."""

    def __init__(self, raw: Any) -> None:
        """`raw` is psycopg's connection."""
        self._raw = raw
        self._pg: pq.abc.PGconn = raw.pgconn
        self._items: list[_Item] = []
        self._names: dict[bytes, bytes] = {}
        self._named = 0
        """Names that were given out; none is used twice, whatever became of its statement."""
        self._answered_s = -math.inf

    # --- queueing ----------------------------------------------------------------

    def add(self, role: Role, *statements: str) -> None:
        """Add statements without values."""
        self._items += [_Item(s.encode(), None, role, _as_it_is) for s in statements]

    def add_for_unit(self, sql: bytes, values: Sequence[Any], explain: Explain) -> None:
        """Add a statement of the unit that runs. Raises the driver's `DataError` for a NUL."""
        self._items.append(_Item(sql, [_wire(v) for v in values], Role.UNIT, explain))

    def end_unit(self) -> None:
        """Mark what is still queued of the unit as that of one that has returned."""
        for item in self._items:
            if item.role is Role.UNIT:
                item.role = Role.LATE

    def drop_unit(self) -> None:
        """Remove what is still queued of the unit."""
        self._items = [item for item in self._items if item.role is not Role.UNIT]

    def clear(self) -> None:
        """Empty the queue."""
        self._items = []

    @property
    def begun(self) -> bool:
        """Whether the beginning of the transaction was sent, and answered."""
        return not any(item.role is Role.TURN for item in self._items[:1])

    def is_live(self, within_s: float) -> bool:
        """Return whether the server answered within these seconds, and has not hung up since."""
        is_fresh = time.monotonic() < self._answered_s + within_s
        # Between two batches it sends nothing but the news that it ends the connection.
        return is_fresh and not self._poll(select.POLLIN, 0)

    # --- sending -----------------------------------------------------------------

    def execute(self, sql: bytes, values: Sequence[Any]) -> pq.abc.PGresult:
        """Send the queue, then this statement of the unit; returns its result.

        Raises what the driver raises, explained where the statement says how, and `BatchError`.
        """
        self.add_for_unit(sql, values, _as_it_is)
        result = self.flush()
        assert result is not None
        return result

    def rows(self, result: pq.abc.PGresult) -> list[tuple[Any, ...]]:
        """Return the rows of a result, as the driver makes them."""
        transformer = Transformer(self._raw)
        transformer.set_pgresult(result)
        return list(transformer.load_rows(0, result.ntuples, tuple))

    def flush(self) -> pq.abc.PGresult | None:
        """Send the queue, and return the last statement's result; None: it was empty.

        Raises as `execute` does; then the queue is empty, and the transaction has failed.
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
        """Hand all of it to libpq; returns whose each result will be, and the name it prepares."""
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
        """Read every answer; the first that failed is raised."""
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
                self._pg.get_result()  # there is no more of this one
            self._next()  # all were answered
            self._answered_s = time.monotonic()
        except psycopg.OperationalError:
            if failed is None:  # or that is why the connection was lost
                raise
        if failed is not None and isinstance(failed[1], InvalidSqlStatementName):
            self._names = {}
            raise ForgottenError(failed[1])
        if failed is not None:
            raise _raised(*failed)
        assert last is not None
        return last

    def _write(self) -> None:
        """Send all of it, reading meanwhile, or both sides would wait for each other."""
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
    """Return a value as text that the server reads."""
    if value is None:
        return None
    if isinstance(value, str):
        if "\0" in value:
            raise psycopg.DataError("text with a NUL")
        return value.encode()
    if isinstance(value, bool):
        return _BOOLEANS[value]
    return repr(value).encode()  # a number
