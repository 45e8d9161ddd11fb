"""The worker threads."""

from __future__ import annotations

import queue
import threading

from executor.board import Board
from executor.outcome import decide_outcome
from executor.reporter import Reporter
from executor.run import Run
from job_engine.log import get_logger

log = get_logger(__name__)


class Workers:
    """N threads, each of which runs one action after another."""

    def __init__(self, threads: int, board: Board, reporter: Reporter) -> None:
        self._board = board
        self._reporter = reporter
        self._inbox: queue.SimpleQueue[Run | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"worker-{n}", daemon=True)
            for n in range(threads)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float) -> None:
        """Let the threads end when what they run has ended; waits no longer than that."""
        for _ in self._threads:
            self._inbox.put(None)
        for thread in self._threads:
            thread.join(timeout_s)

    def submit(self, run: Run) -> None:
        """Hand a run to a free thread."""
        self._board.add(run)
        self._inbox.put(run)

    def _work(self) -> None:
        while (run := self._inbox.get()) is not None:
            log.info("job.started", job=run.job.id, action=run.job.action, resumed=run.resumed)
            ended = run.execute()
            if isinstance(ended, Exception):
                log.info("job.raised", job=run.job.id, error=repr(ended), exc_info=ended)
            outcome = decide_outcome(ended, run.interruption, run.job.attempts, run.action.retry)
            self._reporter.end(run, outcome)
            self._board.remove(run)
