"""A limit on concurrent expensive requests, and on how many wait for them.

A waiting request holds a thread. Without a limit one kind of request could take all
threads, and without a limit for each caller one caller could.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from job_engine.errors import JobEngineError


class ConcurrencyLimit:
    """Admits `at_once` requests; up to `waiting` more wait, and the rest is refused.

    Args:
        at_once: requests that run at the same time.
        waiting: requests that wait.
        refusal: makes the error for a request that is refused.
        each: requests of one caller that run at the same time; one caller then also has a
            quarter of the places to wait. None: callers are not told apart.
    """

    def __init__(
        self,
        at_once: int,
        waiting: int,
        refusal: Callable[[], JobEngineError],
        each: int | None = None,
    ) -> None:
        self._at_once = at_once
        self._places = at_once + waiting
        self._each = at_once if each is None else each
        self._places_each = self._places if each is None else each + max(1, waiting // 4)
        self._refusal = refusal
        self._changed = threading.Condition()
        self._here: Counter[str] = Counter()
        self._in: Counter[str] = Counter()

    @contextmanager
    def admit(self, caller: str = "") -> Iterator[None]:
        """Wait until admitted. Raises the refusal if too many requests wait already."""
        with self._changed:
            if self._here.total() >= self._places or self._here[caller] >= self._places_each:
                raise self._refusal()
            self._here[caller] += 1
            self._changed.wait_for(lambda: self._may_enter(caller))
            self._in[caller] += 1
        try:
            yield
        finally:
            with self._changed:
                for counted in (self._here, self._in):
                    counted[caller] -= 1
                    if not counted[caller]:
                        del counted[caller]
                self._changed.notify_all()

    def _may_enter(self, caller: str) -> bool:
        return self._in.total() < self._at_once and self._in[caller] < self._each
