"""The abstract database under the store, and the values that its repositories share."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Final, TypeVar

import orjson
from sqlalchemy import Connection, RowMapping

T = TypeVar("T")

Clock = Callable[[], int]
"""Returns the time in epoch milliseconds; tests pass their own."""

Row = Mapping[str, Any] | RowMapping
"""A row that was read or will be written, by column."""

Unit = Callable[[Connection], T]
"""A piece of work in one transaction. If it raises, its own changes are undone, no others."""

EVENTS_TOPIC = "events/"
"""Prefix of the topics of new events; the state that an event reports follows it."""


def system_clock_ms() -> int:
    """Return the time of this machine in epoch milliseconds."""
    return time.time_ns() // 1_000_000


def announce(connection: Connection, topic: str) -> None:
    """Notify listeners of `topic` once this transaction is committed."""
    connection.info.setdefault("topics", set()).add(topic)


def announced(connection: Connection) -> set[str]:
    """Return the topics announced over a connection, and clear them."""
    topics: set[str] = connection.info.pop("topics", set())
    return topics


class Database(ABC):
    """Runs units of work; each backend decides how reads and writes are scheduled.

    A backend guarantees that a write is durable when it returns, that writes commit in the
    order of the event ids that they draw, and that a read sees a snapshot.
    """

    def __init__(self) -> None:
        self._listeners: list[Callable[[frozenset[str]], None]] = []

    @abstractmethod
    def start(self) -> None:
        """Bring the schema up to date, then accept work. Raises `StoreError`."""

    @abstractmethod
    def stop(self) -> None:
        """Commit what was submitted, then close every connection."""

    @abstractmethod
    def read(self, unit: Unit[T]) -> T:
        """Run `unit` on a snapshot and return its result."""

    def read_one(self, unit: Unit[T]) -> T:
        """Like `read`, for a unit of a single statement, which may be cheaper."""
        return self.read(unit)

    @abstractmethod
    def submit(self, unit: Unit[T]) -> Future[T]:
        """Queue `unit`; the future holds its result once that is durable."""

    def write(self, unit: Unit[T]) -> T:
        """Run `unit` and return its result once that is durable."""
        return self.submit(unit).result()

    def listen(self, listener: Callable[[frozenset[str]], None]) -> None:
        """Call `listener` with the topics of each commit; it must not block or raise."""
        self._listeners.append(listener)

    def unlisten(self, listener: Callable[[frozenset[str]], None]) -> None:
        """Remove `listener`."""
        self._listeners.remove(listener)

    def _publish(self, topics: frozenset[str]) -> None:
        for listener in tuple(self._listeners):
            listener(topics)


Document = dict[str, Any]
"""A CIMI document: kebab-case names, JSON values."""

read_json: Final = orjson.loads
"""Parses stored JSON."""


def write_json(value: Any) -> str:
    """Return JSON for storage. Raises `TypeError` for a value that JSON does not have."""
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
