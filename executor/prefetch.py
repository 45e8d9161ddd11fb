"""How far to claim ahead of the threads, and what of it to keep.

What an action does is only known once its job was claimed. So this executor claims ahead
while all it is given is short, and stops at the first job that is not.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from executor.board import Board

AHEAD: Final = 64
"""Most short jobs that wait in this process for a thread."""

PROVEN: Final = 2
"""Claims in a row that brought nothing but short jobs, before it is claimed ahead."""


class Prefetch:
    """For the claimer's thread. `short` names the actions that are over in milliseconds."""

    def __init__(self, board: Board, short: Collection[str]) -> None:
        self._board = board
        self._short = frozenset(short)
        self._in_a_row = 0

    def wait_room(self, timeout_s: float) -> int:
        """Wait until it is worth claiming; return how many jobs there is room for."""
        if self._in_a_row < PROVEN:
            return self._board.wait_room(0, 1, timeout_s)
        # Half of it at a time: a claim for each that ends would cost as much as for all.
        return self._board.wait_room(AHEAD, AHEAD // 2, timeout_s)

    def saw(self, actions: Sequence[str]) -> None:
        """Note what one claim brought; nothing to run says nothing."""
        if not actions:
            return
        if all(action in self._short for action in actions):
            self._in_a_row += 1
        else:
            self._in_a_row = 0

    def admits(self, action: str) -> bool:
        """Whether a job of this action may wait for a thread here, or gets one now.

        A job that is not short gets a thread at once or is given back, and one that is
        short does not wait where every thread may be busy for long.
        """
        runs = self._board.runs()
        if len(runs) < self._board.threads:
            return True
        long = sum(run.action.name not in self._short for run in runs)
        return action in self._short and long < self._board.threads
