"""How many entries of an action may wait in ZooKeeper (bounded-window)."""

from __future__ import annotations

from collections import deque
from typing import Final

from job_engine.model.ahead import held_ahead

LARGEST: Final = 1000
"""Most entries of one action that may wait, however fast they drain."""

SPAN_S: Final = 1.0
"""Seconds over which the drain rate is measured."""
LEAST_SPAN_S: Final = 0.1
"""Shortest time, in seconds, that a rate is computed from; a shorter one is too noisy."""


def window_size(threads: int, drained_per_s: float, *, short: bool = False) -> int:
    """Return how many entries of an action may wait in ZooKeeper.

    That is twice the live `threads`, or what drains in one second, whichever is more, and at
    most `LARGEST`. For a `short` action, the second's entries include those that executors
    prefetch, so these are subtracted.
    """
    least = 2 * threads
    second = int(drained_per_s)
    ahead = held_ahead(drained_per_s) if short else 0
    return min(LARGEST, max(least, min(LARGEST, second) - ahead))


class DrainMeter:
    """Measures how many entries executors take in a second.

    Pushes are no measure: entries that enlarge the window would count as taken, and the
    window would grow on its own.
    """

    def __init__(self) -> None:
        self._taken: deque[tuple[float, int]] = deque()

    def add(self, count: int, now: float) -> None:
        """Note that `count` entries are gone at `now` (monotonic seconds)."""
        self._taken.append((now, count))

    def per_s(self, now: float) -> float:
        """Return entries a second, over the last second or since the first observation in it.

        The time that the first observed entries took is unknown, so they do not count where
        less than a second was observed.
        """
        while self._taken and self._taken[0][0] < now - SPAN_S:
            self._taken.popleft()
        if not self._taken:
            return 0.0
        (began, first), (last, _) = self._taken[0], self._taken[-1]
        total = sum(count for _, count in self._taken)
        return max(total / SPAN_S, (total - first) / max(LEAST_SPAN_S, last - began))
