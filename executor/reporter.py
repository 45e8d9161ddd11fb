"""Writing to the API what runs have to say, in batches, and letting go of their entries."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from executor.board import Board
from executor.breaker import Breaker
from executor.outcome import Disposal, Outcome
from executor.run import Run
from job_engine.client import Api
from job_engine.errors import ApiError, Cancelled, ClaimLost, QueueError, SessionLostError
from job_engine.log import get_logger
from job_engine.model.protocol import BATCH_LIMIT, Receipt, Report, ReportKind, ReportRequest
from job_engine.queue import ClaimQueue, QueueClaim

log = get_logger(__name__)

PROGRESS_S: Final = 0.2
"""Least time between two batches that carry nothing but progress."""

HEARTBEAT_S: Final = 10.0
"""Every run is reported this often even when silent: the receipt tells of a lost claim."""

RETRY_S: Final = 0.5
"""Wait before a deletion in ZooKeeper that got no answer is tried again."""


class Reporter:
    """One thread that coalesces: while a batch is under way, the next one gathers.

    The outcome of a run is written first, and only then its entry consumed; killed
    between the two, the next claimer is answered `final`, and consumes.
    """

    def __init__(
        self, api: Api, queue: ClaimQueue, board: Board, breaker: Breaker, name: str
    ) -> None:
        self._api = api
        self._queue = queue
        self._board = board
        self._breaker = breaker
        self._name = name
        self._wanted = threading.Condition()
        self._updated: dict[str, Run] = {}
        self._ended: list[tuple[Run, Outcome]] = []
        self._letting_go: list[tuple[QueueClaim, Disposal]] = []
        self._beat_at = time.monotonic() + HEARTBEAT_S
        self._progress_at = 0.0
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name="reporter", daemon=True)

    def start(self) -> None:
        """Start writing."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Write what is there, and end; waits no longer than that."""
        with self._wanted:
            self._stopping = True
            self._wanted.notify()
        self._thread.join(timeout_s)

    def update(self, run: Run) -> None:
        """The run has progress or log lines to report."""
        with self._wanted:
            self._updated[run.claim.entry] = run
            self._wanted.notify()

    def end(self, run: Run, outcome: Outcome) -> None:
        """The run is over: write its outcome, then let go of its entry."""
        with self._wanted:
            self._updated.pop(run.claim.entry, None)
            self._ended.append((run, outcome))
            self._wanted.notify()

    def let_go(self, claims: Sequence[QueueClaim], disposal: Disposal) -> None:
        """Consume or release entries for which nothing is to be written."""
        with self._wanted:
            self._letting_go += [(claim, disposal) for claim in claims]
            self._wanted.notify()

    def beat(self) -> None:
        """Report every run soon: something may have happened that nobody told of."""
        with self._wanted:
            self._beat_at = 0.0
            self._wanted.notify()

    # --- the thread -----------------------------------------------------------

    def _loop(self) -> None:
        while True:
            with self._wanted:
                self._wanted.wait_for(self._due, self._patience_s())
                if self._stopping and not (self._ended or self._letting_go):
                    return
                ended, self._ended = self._ended[:BATCH_LIMIT], self._ended[BATCH_LIMIT:]
                updated = self._take_updated()
            try:
                self._write(ended, updated)
                self._delete()
            except Exception:
                # A defect here must not silence the executor for good.
                log.exception("reporter.failed")
                self.let_go([run.claim for run, _ in ended], Disposal.RELEASE)

    def _due(self) -> bool:
        now = time.monotonic()
        return bool(
            self._stopping
            or self._ended
            or self._letting_go
            or (self._updated and now >= self._progress_at)
            or now >= self._beat_at
        )

    def _patience_s(self) -> float:
        due_at = min(self._beat_at, self._progress_at) if self._updated else self._beat_at
        return max(0.01, due_at - time.monotonic())

    def _take_updated(self) -> list[Run]:
        """Runs to report progress of; held under the lock."""
        now = time.monotonic()
        if now >= self._beat_at:
            self._beat_at = now + HEARTBEAT_S
            self._updated = {}
            return self._board.runs()
        if now < self._progress_at:
            return []
        updated, self._updated = list(self._updated.values()), {}
        return updated

    def _write(self, ended: list[tuple[Run, Outcome]], updated: list[Run]) -> None:
        over = {id(run) for run, _ in ended}
        silent = [(run, outcome) for run, outcome in ended if outcome.kind is None]
        for run, outcome in silent:
            assert outcome.disposal is not None
            self._letting_go.append((run.claim, outcome.disposal))
        told: list[tuple[Run, Outcome | None, Report]] = [
            (run, outcome, _final_report(run, outcome))
            for run, outcome in ended
            if outcome.kind is not None
        ]
        told += [
            (run, None, run.take_update())
            for run in updated
            if id(run) not in over and run.interruption is None
        ]
        self._progress_at = time.monotonic() + PROGRESS_S
        for start in range(0, len(told), BATCH_LIMIT):
            self._send(told[start : start + BATCH_LIMIT])

    def _send(self, batch: list[tuple[Run, Outcome | None, Report]]) -> None:
        request = ReportRequest(executor=self._name, reports=[report for *_, report in batch])
        try:
            receipts = self._api.report(request)
        except ApiError as error:
            # api-down-means-release: the jobs run again elsewhere, under newer fences.
            self._breaker.trip(error.message)
            self._board.interrupt_all(ClaimLost)
            for run, outcome, _ in batch:
                if outcome is not None:
                    self._letting_go.append((run.claim, Disposal.RELEASE))
            return
        for (run, outcome, report), receipt in zip(batch, receipts, strict=True):
            if outcome is None:
                self._settle_progress(run, receipt)
            else:
                self._settle_end(run, outcome, report, receipt)

    def _settle_progress(self, run: Run, receipt: Receipt) -> None:
        if receipt is Receipt.FINAL:
            run.interrupt(Cancelled())
        elif receipt is Receipt.LOST:
            run.interrupt(ClaimLost())

    def _settle_end(self, run: Run, outcome: Outcome, report: Report, receipt: Receipt) -> None:
        log.info(
            "job.ended",
            job=run.job.id,
            entry=run.claim.entry,
            kind=report.kind,
            state=outcome.state,
            receipt=receipt,
            message=outcome.message,
        )
        kept = receipt is Receipt.LOST or (
            receipt is Receipt.ACCEPTED and outcome.kind is ReportKind.RELEASE
        )
        disposal = Disposal.RELEASE if kept else Disposal.CONSUME
        self._letting_go.append((run.claim, disposal))

    # --- the entries ----------------------------------------------------------

    def _delete(self) -> None:
        with self._wanted:
            pending, self._letting_go = self._letting_go, []
        for disposal, act in self._acts():
            claims = [claim for claim, what in pending if what is disposal]
            if not claims:
                continue
            try:
                act(claims)
            except SessionLostError:
                pass  # the claim nodes went with their session
            except QueueError as error:
                self._try_again(claims, disposal, error)
                continue
            self._board.let_go(claims)

    def _acts(self) -> list[tuple[Disposal, Callable[[Sequence[QueueClaim]], None]]]:
        return [
            (Disposal.CONSUME, self._queue.consume),
            (Disposal.RELEASE, self._queue.release),
        ]

    def _try_again(self, claims: list[QueueClaim], disposal: Disposal, error: QueueError) -> None:
        log.info("queue.retry", entries=len(claims), disposal=disposal, error=error.message)
        with self._wanted:
            if self._stopping:
                return  # the end of the session releases them
            self._wanted.wait(RETRY_S)
            self._letting_go += [(claim, disposal) for claim in claims]


def _final_report(run: Run, outcome: Outcome) -> Report:
    assert outcome.kind is not None
    update = run.take_update()
    return update.model_copy(
        update={
            "kind": outcome.kind,
            "state": outcome.state,
            "progress": None,
            "status_message": outcome.message or update.status_message,
            "output": outcome.output,
            "return_code": outcome.return_code,
            "retry_after_s": outcome.retry_after_s,
        }
    )
