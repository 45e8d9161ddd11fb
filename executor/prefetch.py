"""How far to claim ahead of the threads, and what of it to keep.

What an action does is only known once its job was claimed. So this executor claims ahead
while all it is given is short, and stops at the first job that is not. It holds what its
threads do in a moment, so that what is urgent, and other executors, wait no longer than that.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Final

from executor.board import Board
from job_engine.model.ahead import AHEAD_S, held_ahead

PARTS: Final = 4
"""Part of them that has to be gone before more is claimed: some wait for a thread while the
API is asked about others, and ZooKeeper for yet others."""

PROVEN: Final = 2
"""Claims in a row that brought nothing but short jobs, before it is claimed ahead."""


class Prefetch:
    """For the claimer's thread. `short` names the actions that are over in milliseconds."""

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
        """How many jobs were taken on, and when, in the last `AHEAD_S`."""

    def wait_room(self, timeout_s: float) -> int:
        """Wait until it is worth claiming; return how many jobs there is room for."""
        if self._in_a_row < PROVEN:
            return self._board.wait_room(0, 1, timeout_s)
        # Some at a time: a claim for each that ends would cost as much as for all.
        ahead = self._ahead()
        room = self._board.wait_room(ahead, ahead // PARTS, timeout_s)
        return min(room, ahead // 2)

    def room_beyond(self, claimed: int) -> int:
        """Return how many more there is room for already, if `claimed` jobs are short too.

        0 where that is not enough to be worth a claim.
        """
        if self._in_a_row < PROVEN:
            return 0
        ahead = self._ahead()
        room = self._board.wait_room(ahead, 0, 0) - claimed
        return min(room, ahead // 2) if room >= ahead // PARTS else 0

    def saw(self, actions: Sequence[str]) -> None:
        """Note what one claim brought; nothing to run says nothing."""
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
        """Whether a job of this action may wait for a thread here, or gets one now.

        A job that is not short gets a thread at once or is given back, and one that is
        short does not wait where every thread may be busy for long.
        """
        running, short = self._board.count(self._short)
        if running < self._board.threads:
            return True
        return action in self._short and running - short < self._board.threads
