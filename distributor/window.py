"""How many entries of an action may wait in ZooKeeper (bounded-window)."""

from __future__ import annotations

from collections import deque
from typing import Final

LARGEST: Final = 1000
"""Most entries of one action that may wait, however fast they drain."""

SPAN_S: Final = 1.0


def window_size(threads: int, drained_per_s: float) -> int:
    """Twice the live threads, or one second of measured drain, whichever is more."""
    return min(LARGEST, max(2 * threads, int(drained_per_s)))


class DrainMeter:
    """Measures how fast entries are taken.

    Not by how many are pushed: those that make the window larger would count as taken,
    and it would grow by itself.
    """

    def __init__(self) -> None:
        self._taken: deque[tuple[float, int]] = deque()

    def add(self, count: int, now: float) -> None:
        """`count` entries were found gone at `now` (monotonic seconds)."""
        self._taken.append((now, count))

    def per_s(self, now: float) -> float:
        """Entries a second over the last second."""
        while self._taken and self._taken[0][0] < now - SPAN_S:
            self._taken.popleft()
        return sum(count for _, count in self._taken) / SPAN_S
