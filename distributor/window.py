"""How many entries of an action may wait in ZooKeeper (bounded-window)."""

from __future__ import annotations

from collections import deque
from typing import Final

from job_engine.model.ahead import held_ahead

LARGEST: Final = 1000
"""Most entries of one action that may wait, however fast they drain."""

SPAN_S: Final = 1.0
LEAST_SPAN_S: Final = 0.1
"""Shortest time that a rate is told from; in less, chance has too much to say."""


def window_size(threads: int, drained_per_s: float, *, short: bool = False) -> int:
    """Twice the live threads, or one second of measured drain, whichever is more.

    What executors hold ahead of their threads, where the action is `short`, is part of it.
    """
    least = 2 * threads
    second = int(drained_per_s)
    ahead = held_ahead(drained_per_s) if short else 0
    return min(LARGEST, max(least, min(LARGEST, second) - ahead))


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
        """Entries a second over the last second, or over what there was of it so far.

        How long the first of them took is not known: idle threads take what they find at
        once, and then perhaps nothing for long. So those do not count for a shorter time.
        """
        while self._taken and self._taken[0][0] < now - SPAN_S:
            self._taken.popleft()
        if not self._taken:
            return 0.0
        (began, first), (last, _) = self._taken[0], self._taken[-1]
        total = sum(count for _, count in self._taken)
        return max(total / SPAN_S, (total - first) / max(LEAST_SPAN_S, last - began))
