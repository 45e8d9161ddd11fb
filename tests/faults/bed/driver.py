"""Draws faults from a seed, injects them, several at once, and undoes them."""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from tests.faults.bed.journal import Fault
from tests.faults.bed.kinds import KINDS
from tests.faults.bed.plan import Plan
from tests.faults.bed.world import World

AT_ONCE: Final = 4
"""Faults that may be there at the same time."""
MOST_POSTPONED: Final = 5
"""Kinds whose turn has come and which are not possible just now, at most."""
NEVER_S: Final = 90.0
"""Seconds after which what is not possible never will be."""
TICK_S: Final = 0.05


class Driver:
    """One thread's work: the processes that it starts die with that thread.

    The seed decides the order of kinds, their targets, their lengths and the pauses
    between them. What the machine adds, such as which server leads, it cannot decide.

    Args:
        count: faults in all; every kind has its turn before any has the next one.
        gap_s: mean time between two injections.
        kinds: names of those to draw from.
        ready: whether there may be another one now.
        on_fault: called with the number of faults injected so far.
        on_idle: called while what is left to inject is not possible: there may have to be
            jobs for it.
    """

    def __init__(
        self,
        world: World,
        seed: int,
        count: int,
        gap_s: float,
        kinds: Sequence[str],
        ready: Callable[[], bool],
        on_fault: Callable[[int], None],
        on_idle: Callable[[], None],
    ) -> None:
        self._world = world
        self._ready = ready
        self._on_idle = on_idle
        self._rng = random.Random(seed)
        self._count = count
        self._gap_s = gap_s
        self._kinds = kinds
        self._on_fault = on_fault
        self._numbers = itertools.count()
        self._undo: list[tuple[float, int, Plan, Fault]] = []
        self._used: set[str] = set()

    def run(self) -> None:
        """Inject everything, and undo it; processes that end by themselves are started again."""
        deck = self._deck()
        turns: deque[str] = deque()
        next_at = time.monotonic()
        injected = 0
        while injected < self._count or self._undo:
            now = time.monotonic()
            self._undo_due(now)
            self._world.revive()
            if not self._ready():
                next_at = max(next_at, now)
            elif injected < self._count and now >= next_at and len(self._undo) < AT_ONCE:
                if not turns:
                    turns.extend(itertools.islice(deck, 1))
                if self._inject(turns[0]):
                    turns.popleft()
                    injected += 1
                    self._on_fault(injected)
                    next_at = now + self._rng.expovariate(1 / self._gap_s)
                else:
                    self._postpone(turns, deck)
                    assert now < next_at + NEVER_S, f"never possible: {set(turns)}"
            time.sleep(TICK_S)

    def _postpone(self, turns: deque[str], deck: Iterator[str]) -> None:
        """Let somebody else go first, if these may wait longer."""
        more = list(itertools.islice(deck, 1)) if len(turns) < MOST_POSTPONED else []
        turns.extend(more)
        turns.rotate(-1)
        if not more:
            self._on_idle()

    def _deck(self) -> Iterator[str]:
        """Every kind, shuffled; then every kind again; until there are enough."""

        def shuffled() -> list[str]:
            kinds = list(self._kinds)
            self._rng.shuffle(kinds)
            return kinds

        endless = itertools.chain.from_iterable(shuffled() for _ in itertools.count())
        return itertools.islice(endless, self._count)

    def _inject(self, kind: str) -> bool:
        plan = KINDS[kind](self._world, self._rng)
        if plan is None or plan.resources & self._used:
            return False
        fault = self._world.journal.begin(kind, plan.target, plan.detail)
        if not plan.inject():
            self._world.journal.withdraw(fault)
            return False
        if plan.undo is None:
            self._world.journal.end(fault)
            return True
        self._used |= plan.resources
        undo_at = time.monotonic() + plan.hold_s
        heapq.heappush(self._undo, (undo_at, next(self._numbers), plan, fault))
        return True

    def _undo_due(self, now: float) -> None:
        while self._undo and self._undo[0][0] <= now:
            _, _, plan, fault = heapq.heappop(self._undo)
            assert plan.undo is not None
            plan.undo()
            self._used -= plan.resources
            self._world.journal.end(fault)
