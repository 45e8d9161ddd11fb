"""How many warm slots to keep of each kind, by past demand and a budget.

Time is an argument everywhere, in seconds of one monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

WINDOW_S: Final = 30.0
"""Time constant of the rate: an arrival t seconds ago counts exp(-t / WINDOW_S)."""
IDLE_S: Final = 600.0
"""Seconds after the last arrival for which a slot is kept."""
LEAD_S: Final = 1800.0
"""Seconds before and after a due date in which as many slots wait as can be used at once."""
_FIRST_PREPARE_S: Final = 1.0
_LEARN: Final = 0.3
"""Weight of a new measurement in the moving average of the time to prepare a slot."""


class Demand:
    """Measures the demand for slots of one kind."""

    def __init__(self) -> None:
        self._arrivals = 0
        self._weight = 0.0
        self._last = -math.inf
        self._prepare_s: float | None = None
        self._due = -math.inf

    def arrive(self, now: float) -> None:
        """Note that a slot was asked for."""
        self._weight = self.rate(now) * WINDOW_S + 1
        self._last = now
        self._arrivals += 1

    def prepared(self, seconds: float) -> None:
        """Note that preparing a slot took so many seconds."""
        known = self._prepare_s
        self._prepare_s = seconds if known is None else known + _LEARN * (seconds - known)

    def expect(self, due: float) -> None:
        """Note that many slots will be asked for around a time."""
        self._due = due

    def rate(self, now: float) -> float:
        """Return how many slots are asked for in a second."""
        return self._weight * math.exp(min(0.0, self._last - now) / WINDOW_S) / WINDOW_S

    def wanted(self, now: float, at_once: int) -> int:
        """Return how many slots should wait; `at_once` can be used at the same time.

        That is the number of arrivals while one is prepared, plus two standard deviations of a
        Poisson process; 0 before the second arrival, because many kinds never come again.
        """
        if abs(now - self._due) <= LEAD_S:
            return at_once
        if self._arrivals < 2 or now - self._last > IDLE_S:
            return 0
        mean = self.rate(now) * (self._prepare_s or _FIRST_PREPARE_S)
        return max(1, min(at_once, math.ceil(mean + 2 * math.sqrt(mean))))

    def forgotten(self, now: float) -> bool:
        """Return whether the demand is so old that it can be forgotten."""
        return now - self._last > IDLE_S and now > self._due + LEAD_S


@dataclass(frozen=True)
class Wish:
    """The number of slots that one kind should have, and what they cost."""

    slots: int
    bytes_each: int
    rate: float


def allot(wishes: Sequence[Wish], slots: int, memory_bytes: int) -> list[int]:
    """Return how many slots each kind gets, within a budget of slots and memory.

    Each kind gets one in order of demand, then a second one, and so on, so kinds with little
    demand are the first to get none.
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
