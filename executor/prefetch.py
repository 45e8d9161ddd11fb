"""Prefetching: claiming more short jobs than there are free threads.

Whether a job is short is known only once it is claimed, so the executor claims ahead while
recent claims brought nothing but short jobs, and stops at the first long one. It holds no
more than its threads finish in `AHEAD_S`, so that urgent jobs and other executors wait no
longer than that.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Final

from executor.board import Board
from job_engine.model.ahead import AHEAD_S, held_ahead

PARTS: Final = 4
"""More is claimed once a quarter of what may be held ahead has room. The rest keeps threads
busy while ZooKeeper and the API answer for the next jobs."""

PROVEN: Final = 2
"""Claims in a row that must bring only short jobs before prefetching starts."""


class Prefetch:
    """Decides how many jobs to claim; for the claimer's thread alone.

    `short` names the actions that take milliseconds.
    """

    def __init__(
        self,
        board: Board,
        short: Collection[str],
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._board = board
        self._short = frozenset(short)
        self._monotonic_s = monotonic_s
        self._in_a_row = 0
        self._taken: deque[tuple[float, int]] = deque()
        """When (monotonic seconds) and how many jobs were claimed, in the last `AHEAD_S`."""

    def wait_room(self, timeout_s: float) -> int:
        """Wait up to `timeout_s` until claiming is worth it; return how many jobs fit."""
        if self._in_a_row < PROVEN:
            return self._board.wait_room(0, 1, timeout_s)
        # In batches: one claim for each job that ends would cost as much as one for all.
        ahead = self._ahead()
        room = self._board.wait_room(ahead, ahead // PARTS, timeout_s)
        return min(room, ahead // 2)

    def room_beyond(self, claimed: int) -> int:
        """Return how many jobs fit beside `claimed` ones, if those are short too.

        0 where so few fit that a claim is not worth it.
        """
        if self._in_a_row < PROVEN:
            return 0
        ahead = self._ahead()
        room = self._board.wait_room(ahead, 0, 0) - claimed
        return min(room, ahead // 2) if room >= ahead // PARTS else 0

    def saw(self, actions: Sequence[str]) -> None:
        """Note the actions that one claim brought; an empty claim changes nothing."""
        if not actions:
            return
        if all(action in self._short for action in actions):
            self._in_a_row += 1
            self._taken.append((self._monotonic_s(), len(actions)))
        else:
            self._in_a_row = 0

    def _ahead(self) -> int:
        since = self._monotonic_s() - AHEAD_S
        while self._taken and self._taken[0][0] < since:
            self._taken.popleft()
        return held_ahead(sum(count for _, count in self._taken) / AHEAD_S)

    def admits(self, action: str) -> bool:
        """Return whether a claimed job of this action is kept.

        A long job is kept only if a thread is free. A short one may wait for a thread,
        unless long jobs occupy all of them.
        """
        running, short = self._board.count(self._short)
        if running < self._board.threads:
            return True
        return action in self._short and running - short < self._board.threads
