"""Ending runs that take too long, and the process when one cannot be ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from executor.board import Board
from executor.run import Run
from job_engine.errors import TimedOut
from job_engine.log import get_logger

log = get_logger(__name__)

STUCK_S: Final = 5.0
"""Seconds that an interrupted action gets to end."""

TICK_S: Final = 0.2


class Watchdog:
    """Interrupts actions at their timeout; calls `on_stuck` for one that goes on anyway.

    A Python thread cannot be stopped from outside, so the only way out is to end the
    process; its supervisor starts a new one.
    """

    def __init__(self, board: Board, on_stuck: Callable[[Run], None]) -> None:
        self._board = board
        self._on_stuck = on_stuck
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="watchdog", daemon=True)

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopping.set()
        self._thread.join(2 * TICK_S)

    def _loop(self) -> None:
        while not self._stopping.wait(TICK_S):
            now = time.monotonic()
            for run in self._board.runs():
                try:
                    self._look_at(run, now)
                except Exception:
                    # One run that cannot be looked at must not hide the others.
                    log.exception("watchdog.failed", job=run.job.id)

    def _look_at(self, run: Run, now: float) -> None:
        limit_s = run.action.timeout_s
        if run.started_at is None:
            return  # it still waits for a thread, and ends as soon as it has one
        if run.interrupted_at is not None:
            if now - max(run.interrupted_at, run.started_at) > STUCK_S:
                log.critical("job.stuck", job=run.job.id, action=run.job.action)
                self._on_stuck(run)
        elif now - run.started_at > limit_s:
            run.interrupt(TimedOut(f"The action ran longer than its timeout of {limit_s:g} s."))
