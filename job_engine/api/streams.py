"""Waking event streams when the writer commits an event, and ending them at a stop."""

from __future__ import annotations

import asyncio
import threading

from job_engine.store.base import EVENTS_TOPIC


class Streams:
    """Told by the writer's thread; waited for on event loops."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self._lock = threading.Lock()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the server is stopping: every stream ends."""
        return self._closed

    def committed(self, topics: frozenset[str]) -> None:
        """Wake every stream if events were committed; the store calls this."""
        if EVENTS_TOPIC in topics:
            self._wake()

    def close(self) -> None:
        """End every stream, and those that are opened later."""
        self._closed = True
        self._wake()

    def open(self) -> asyncio.Event:
        """Return an event that is set whenever there may be something new."""
        woken = asyncio.Event()
        with self._lock:
            self._waiting[woken] = asyncio.get_running_loop()
        return woken

    def leave(self, woken: asyncio.Event) -> None:
        """Forget an event of `open`."""
        with self._lock:
            self._waiting.pop(woken, None)

    def _wake(self) -> None:
        with self._lock:
            for woken, loop in self._waiting.items():
                if not loop.is_closed():
                    loop.call_soon_threadsafe(woken.set)
