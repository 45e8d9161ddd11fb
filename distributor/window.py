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
    """Measures how fast entries are taken, by how many had to be pushed to keep up."""

    def __init__(self) -> None:
        self._pushes: deque[tuple[float, int]] = deque()

    def add(self, count: int, now: float) -> None:
        """`count` entries were pushed at `now` (monotonic seconds)."""
        self._pushes.append((now, count))

    def per_s(self, now: float) -> float:
        """Entries a second over the last second."""
        while self._pushes and self._pushes[0][0] < now - SPAN_S:
            self._pushes.popleft()
        return sum(count for _, count in self._pushes) / SPAN_S
