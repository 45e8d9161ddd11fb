"""Few at a time of what is dear, and few that wait for it: the rest is refused.

Who waits holds a thread; without a limit, one kind of request would take all of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from job_engine.errors import JobEngineError


class Turns:
    """Lets `at_once` in, and as many as `waiting` wait."""

    def __init__(self, at_once: int, waiting: int, refusal: Callable[[], JobEngineError]) -> None:
        self._turns = threading.BoundedSemaphore(at_once)
        self._places = threading.BoundedSemaphore(at_once + waiting)
        self._refusal = refusal

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for one's turn. Raises the refusal where too many wait already."""
        if not self._places.acquire(blocking=False):
            raise self._refusal()
        try:
            with self._turns:
                yield
        finally:
            self._places.release()
