"""Few at a time of what is dear, and few that wait for it: the rest is refused.

Who waits holds a thread; without a limit, one kind of request would take all of them, and
without one for each caller, one caller would.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from job_engine.errors import JobEngineError


class ConcurrencyLimit:
    """Lets `at_once` in, and as many as `waiting` wait.

    `each` of those who are in may be of one caller, who may have a quarter of the places to
    wait in; None: it does not matter whose they are.
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
        """Wait for one's turn. Raises the refusal where too many wait already."""
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
