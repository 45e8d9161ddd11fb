"""How many slots should wait for a go: from what was asked for, and what they may take.

Time is an argument everywhere, in seconds of one monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

WINDOW_S: Final = 30.0
"""Time constant of the meter: an arrival of t seconds ago counts exp(-t / WINDOW_S)."""
IDLE_S: Final = 600.0
"""How long after the last arrival a slot is still kept."""
LEAD_S: Final = 1800.0
"""How long before and after a due date as many slots wait as may be used at once."""
_FIRST_PREPARE_S: Final = 1.0
_LEARN: Final = 0.3
"""Weight of a new measurement in the mean of what preparing takes."""


class Demand:
    """How often slots of one kind are asked for."""

    def __init__(self) -> None:
        self._arrivals = 0
        self._weight = 0.0
        self._last = -math.inf
        self._prepare_s: float | None = None
        self._due = -math.inf

    def arrive(self, now: float) -> None:
        """One was asked for."""
        self._weight = self.rate(now) * WINDOW_S + 1
        self._last = now
        self._arrivals += 1

    def prepared(self, seconds: float) -> None:
        """One was made, which took that long."""
        known = self._prepare_s
        self._prepare_s = seconds if known is None else known + _LEARN * (seconds - known)

    def expect(self, due: float) -> None:
        """Many will be asked for around this moment."""
        self._due = due

    def rate(self, now: float) -> float:
        """Return how many are asked for in a second."""
        return self._weight * math.exp(min(0.0, self._last - now) / WINDOW_S) / WINDOW_S

    def wanted(self, now: float, at_once: int) -> int:
        """Return how many should wait, of which `at_once` can be used at the same time.

        Enough for what arrives while one is made, with two standard deviations of a Poisson
        process on top; from the second arrival on, as many kinds never come again.
        """
        if abs(now - self._due) <= LEAD_S:
            return at_once
        if self._arrivals < 2 or now - self._last > IDLE_S:
            return 0
        mean = self.rate(now) * (self._prepare_s or _FIRST_PREPARE_S)
        return max(1, min(at_once, math.ceil(mean + 2 * math.sqrt(mean))))

    def forgotten(self, now: float) -> bool:
        """Whether nothing need be remembered of it."""
        return now - self._last > IDLE_S and now > self._due + LEAD_S


@dataclass(frozen=True)
class Wish:
    """What one kind would have."""

    slots: int
    bytes_each: int
    rate: float


def allot(wishes: Sequence[Wish], slots: int, memory_bytes: int) -> list[int]:
    """Return how many slots each kind may have, out of so many and so much memory together.

    One each in order of demand, then a second each, and so on: those that are asked for
    least are the first to go without.
    """
    given = [0] * len(wishes)
    order = sorted(range(len(wishes)), key=lambda n: -wishes[n].rate)
    for wanted in range(1, max((wish.slots for wish in wishes), default=0) + 1):
        for n in order:
            if wishes[n].slots < wanted or slots < 1 or wishes[n].bytes_each > memory_bytes:
                continue
            given[n] += 1
            slots -= 1
            memory_bytes -= wishes[n].bytes_each
    return given
