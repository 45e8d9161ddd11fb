"""The worker threads."""

from __future__ import annotations

import logging
import queue
import random
import threading

from executor.board import Board
from executor.outcome import Ended, Outcome, decide_outcome, policy_of, retry_of
from executor.reporter import Reporter
from executor.run import Run
from job_engine.errors import Interruption, JobEngineError, PlatformFaultError
from job_engine.log import bound, get_logger
from job_engine.model import Fault, verdict_of
from job_engine.plugins import RetryPolicy

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
        """Let each thread end after its current run; wait up to `timeout_s` for each."""
        for _ in self._threads:
            self._inbox.put(None)
        for thread in self._threads:
            thread.join(timeout_s)

    def submit(self, run: Run) -> None:
        """Queue a run, which the board lists already, for the next free thread."""
        self._inbox.put(run)

    def _work(self) -> None:
        while (run := self._inbox.get()) is not None:
            # Everything logged in this thread names the job, including lines of the sandbox.
            with bound(job=run.job.id):
                log.info("job.started", action=run.job.action, resumed=run.resumed)
                self._reporter.end(run, outcome_of(run))
                self._board.remove(run)


def outcome_of(run: Run) -> Outcome:
    """Execute a run in this thread, and return its outcome.

    A run that is interrupted already does not start its action.
    """
    ended = run.execute()
    try:
        if isinstance(ended, BaseException) and not isinstance(ended, Interruption):
            _log_error(run, ended)
        return _decided(run, ended)
    except BaseException:
        # An exception whose own `__str__` raises must not end this thread.
        log.exception("job.undecided", job=run.job.id, error=type(ended).__name__)
        fault = PlatformFaultError(f"The action ended with an unreadable {type(ended).__name__}.")
        return decide_outcome(fault, run.interruption, run.job.attempts, RetryPolicy())


def outcome_of_interrupted(run: Run) -> Outcome:
    """Decide what becomes of a run that was ordered to end and does not."""
    return _decided(run, run.interruption)


def _decided(run: Run, ended: Ended) -> Outcome:
    retry = retry_of(run.job, policy_of(run.action, ended))
    return decide_outcome(ended, run.interruption, run.job.attempts, retry, luck=random.random())


def _log_error(run: Run, error: BaseException) -> None:
    """Log what an action raised, as a warning where the platform is at fault.

    The engine's own errors explain themselves; any other is logged with its traceback.
    """
    verdict = verdict_of(error)
    ours = verdict is not None and verdict.fault is Fault.PLATFORM and run.interruption is None
    ended_as = error.message if isinstance(error, JobEngineError) else repr(error)
    log.log(
        logging.WARNING if ours else logging.INFO,
        "job.raised",
        job=run.job.id,
        action=run.job.action,
        error=ended_as,
        exc_info=None if isinstance(error, JobEngineError) else error,
    )
