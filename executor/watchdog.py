"""The watchdog: interrupts runs at their timeout, and reports those that do not end."""

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
"""Seconds in which an interrupted action has to end."""

TICK_S: Final = 0.2


class Watchdog:
    """Interrupts actions at their timeout; calls `on_stuck` for one that does not end.

    A Python thread cannot be stopped from outside, so `on_stuck` has to end the process;
    its supervisor starts a new one.
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
                    # An error with one run must not stop the watch over the others.
                    log.exception("watchdog.failed", job=run.job.id)

    def _look_at(self, run: Run, now: float) -> None:
        limit_s = run.action.timeout_s
        if run.started_at is None:
            return  # it waits for a thread; an interrupted one ends as soon as it gets one
        if run.interrupted_at is not None:
            if now - max(run.interrupted_at, run.started_at) > STUCK_S:
                log.critical("job.stuck", job=run.job.id, action=run.job.action)
                self._on_stuck(run)
        elif now - run.started_at > limit_s:
            run.interrupt(TimedOut(f"The action ran longer than its timeout of {limit_s:g} s."))
