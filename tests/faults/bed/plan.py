"""What a fault is, before it is injected."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.bed.world import World

Undo = Callable[[], None]


@dataclass(frozen=True)
class Plan:
    """A fault that can be injected now; `resources` are not to be shared meanwhile."""

    target: str
    resources: frozenset[str]
    hold_s: float
    inject: Callable[[], bool]
    """False: it turned out not to be possible, and nothing happened."""
    undo: Undo | None = None
    detail: str = ""


Draw = Callable[[World, random.Random], Plan | None]
"""Draw the details of a fault; None where it is not possible now."""


def done(act: Callable[[], object]) -> Callable[[], bool]:
    """Return an injection that is always possible."""

    def inject() -> bool:
        act()
        return True

    return inject
