"""Wakes event streams when the store commits an event, and ends them when the API stops."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from job_engine.errors import StoreError
from job_engine.log import get_logger
from job_engine.model import JobState
from job_engine.store.base import EVENTS_TOPIC

log = get_logger(__name__)

KINDS: Final = ("events", "changes", "job")
"""Streams of executors, of distributors, and of those who follow a job."""


@dataclass(eq=False)
class Waiter:
    """A stream that waits for topics: `delays` has the seconds after each until it is woken.

    A topic is the state that an event reports, or another topic of the store.
    """

    delays: Mapping[str, float]
    kind: str
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    due: asyncio.TimerHandle | None = None

    def wake(self, delay_s: float) -> None:
        """Set `woken`, at once or once within that time; on the stream's own loop."""
        if delay_s == 0:
            self._set()
        elif self.due is None:
            self.due = self.loop.call_later(delay_s, self._set)

    def _set(self) -> None:
        if self.due is not None:
            self.due.cancel()
            self.due = None
        self.woken.set()


class Streams:
    """All streams that wait. The store's writer calls `committed`; streams wait on event loops."""

    def __init__(self) -> None:
        self._waiting: set[Waiter] = set()
        self._lock = threading.Lock()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the server is stopping: every stream ends."""
        return self._closed

    def committed(self, topics: frozenset[str]) -> None:
        """Wake the streams that wait for something in `topics`; the store calls this."""
        heard = [topic.removeprefix(EVENTS_TOPIC) for topic in topics]
        with self._lock:
            for waiter in self._waiting:
                delays = [waiter.delays[topic] for topic in heard if topic in waiter.delays]
                if delays:
                    self._wake(waiter, min(delays))

    def close(self) -> None:
        """End every stream, and those that are opened later."""
        self._closed = True
        with self._lock:
            for waiter in self._waiting:
                self._wake(waiter, 0)

    def open(self, delays: Mapping[str, float], kind: str) -> Waiter:
        """Return a new waiter for topics, of a kind of `KINDS`; `leave` has to be called with it
        in the end.
        """
        waiter = Waiter(delays, kind)
        with self._lock:
            self._waiting.add(waiter)
        return waiter

    def open_now(self) -> Mapping[str, int]:
        """Return how many streams of each kind are open."""
        with self._lock:
            found = Counter(waiter.kind for waiter in self._waiting)
        return {kind: found[kind] for kind in KINDS}

    def leave(self, waiter: Waiter) -> None:
        """Forget what `open` returned."""
        with self._lock:
            self._waiting.discard(waiter)

    @staticmethod
    def _wake(waiter: Waiter, delay_s: float) -> None:
        if not waiter.loop.is_closed():
            waiter.loop.call_soon_threadsafe(waiter.wake, delay_s)


def log_cut(waiter: Waiter, error: StoreError) -> None:
    """Say that a stream ends because the store does not answer: its reader connects again."""
    log.error("stream.cut", stream=waiter.kind, error=error.detail)


def at_once(states: Iterable[str]) -> dict[str, float]:
    """Return delays of 0 for these states, or for all states if there are none."""
    return dict.fromkeys(states or JobState, 0.0)
