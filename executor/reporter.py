"""The reporter: sends reports of runs to the API in batches, then disposes of their entries."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from executor.board import Board
from executor.breaker import Breaker
from executor.outcome import Disposal, Outcome
from executor.pending import PendingReport, batches
from executor.run import Run
from executor.skips import BrokenHere
from job_engine.client import Api, unwelcome
from job_engine.errors import (
    ApiError,
    ApiUnavailableError,
    Cancelled,
    ClaimLost,
    QueueError,
    SessionLostError,
)
from job_engine.log import get_logger
from job_engine.model.protocol.claims import ReportKind, ReportReceipt, ReportRequest
from job_engine.model.protocol.message import BATCH_LIMIT
from job_engine.queue import QueueClaim

log = get_logger(__name__)

Act = Callable[[Sequence[QueueClaim]], None]
"""Consumes or releases the entries of claims."""


class Entries(Protocol):
    """The part of a `ClaimQueue` that disposes of claimed entries."""

    def consume(self, claims: Sequence[QueueClaim]) -> None:
        """Delete entries and claims."""

    def release(self, claims: Sequence[QueueClaim]) -> None:
        """Delete claims."""


PROGRESS_S: Final = 0.2
"""Seconds between two batches that carry only progress, at least."""

HEARTBEAT_S: Final = 10.0
"""Seconds between reports of a silent run; the receipt says whether its claim still holds."""

RETRY_S: Final = 0.5
"""Seconds before a deletion in ZooKeeper that got no answer is repeated."""


class Reporter:
    """A thread that sends reports in batches: while one is sent, the next one fills.

    The outcome of a run is stored before its entry is consumed. If the executor is killed
    in between, the next claimer of the entry is answered `final`, and consumes it.
    """

    def __init__(self, api: Api, queue: Entries, board: Board, breaker: Breaker, name: str) -> None:
        self._api = api
        self._queue = queue
        self._board = board
        self._breaker = breaker
        self._name = name
        self.broken_here = BrokenHere()
        self._wanted = threading.Condition()
        self._updated: dict[int, Run] = {}
        self._ended: list[tuple[Run, Outcome]] = []
        self._letting_go: list[tuple[QueueClaim, Disposal]] = []
        self._beat_at = time.monotonic() + HEARTBEAT_S
        self._progress_at = 0.0
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name="reporter", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Send what is pending, then end the thread; wait up to `timeout_s`."""
        with self._wanted:
            self._stopping = True
            self._wanted.notify()
        self._thread.join(timeout_s)

    def update(self, run: Run) -> None:
        """Have new progress, log lines or events of a run sent."""
        with self._wanted:
            self._updated[id(run)] = run
            self._wanted.notify()

    def end(self, run: Run, outcome: Outcome) -> None:
        """Have the outcome of a run sent, and its entry disposed of afterwards."""
        with self._wanted:
            self._updated.pop(id(run), None)
            self._ended.append((run, outcome))
            self._wanted.notify()

    def let_go(self, claims: Sequence[QueueClaim], disposal: Disposal) -> None:
        """Consume or release entries without a report."""
        with self._wanted:
            self._letting_go += [(claim, disposal) for claim in claims]
            self._wanted.notify()

    def beat(self) -> None:
        """Report every run soon: an event about one of them may have been missed."""
        with self._wanted:
            self._beat_at = 0.0
            self._wanted.notify()

    # --- the thread -----------------------------------------------------------

    def _loop(self) -> None:
        while self._turn():
            pass

    def _turn(self) -> bool:
        """Wait for work and do it; return false once stopped and nothing is left."""
        with self._wanted:
            self._wanted.wait_for(self._due, self._patience_s())
            if self._stopping and not (self._ended or self._letting_go):
                return False
            ended, self._ended = self._ended[:BATCH_LIMIT], self._ended[BATCH_LIMIT:]
            updated = self._take_updated()
        try:
            self._write(ended, updated)
            self._delete()
        except Exception:
            # A defect here must not silence the executor for good.
            log.exception("reporter.failed")
            self.let_go([run.claim for run, _ in ended], Disposal.RELEASE)
        return True

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
        """Return the runs whose progress is due; the caller holds the lock."""
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
        pending: list[PendingReport] = []
        for run, outcome in ended:
            if outcome.disposal is not None:
                self._letting_go.append((run.claim, outcome.disposal))
            else:
                pending.append(PendingReport.end(run, outcome))
        pending += [
            PendingReport.progress(run)
            for run in updated
            if id(run) not in over and run.interruption is None
        ]
        self._progress_at = time.monotonic() + PROGRESS_S
        for batch in batches(pending):
            self._send(batch)

    def _send(self, batch: Sequence[PendingReport]) -> None:
        reports = [pending.report for pending in batch]
        try:
            receipts = self._api.report(ReportRequest(executor=self._name, reports=reports))
        except ApiUnavailableError as error:
            self._give_up(batch, error)
        except ApiError as error:
            if unwelcome(error):
                self._give_up(batch, error)
            else:
                self._send_apart(batch, error)
        else:
            for pending, receipt in zip(batch, receipts, strict=True):
                self._settle(pending, receipt)

    def _send_apart(self, batch: Sequence[PendingReport], error: ApiError) -> None:
        """Find the report that the API refuses, by halving the batch, and send less of it.

        What one action writes must not cost the other runs their reports.
        """
        if len(batch) > 1:
            middle = len(batch) // 2
            self._send(batch[:middle])
            self._send(batch[middle:])
        elif not batch[0].bare:
            log.error("report.refused", job=batch[0].run.job.id, error=error.message)
            self._send([batch[0].stripped(f"What the run had to say was refused. {error.message}")])
        else:
            self._give_up(batch, error)

    def _give_up(self, batch: Sequence[PendingReport], error: ApiError) -> None:
        # api-down-means-release: other executors run the jobs again, under newer fences.
        self._breaker.trip(error)
        self._board.interrupt_all(ClaimLost)
        for pending in batch:
            if pending.outcome is not None:
                self._letting_go.append((pending.run.claim, Disposal.RELEASE))

    def _settle(self, pending: PendingReport, receipt: ReportReceipt) -> None:
        if pending.outcome is not None:
            self._settle_end(pending.run, pending.outcome, receipt)
        elif receipt is ReportReceipt.FINAL:
            pending.run.interrupt(Cancelled())
        elif receipt is ReportReceipt.LOST:
            pending.run.interrupt(ClaimLost())

    def _settle_end(self, run: Run, outcome: Outcome, receipt: ReportReceipt) -> None:
        log.info(
            "job.ended",
            job=run.job.id,
            entry=run.claim.entry,
            kind=outcome.kind,
            state=outcome.state,
            receipt=receipt,
            message=outcome.message,
        )
        if receipt is ReportReceipt.ACCEPTED and outcome.kind is ReportKind.RETRY:
            self.broken_here.add(run.job.id, run.job.action, outcome.retry_after_s or 0.0)
        kept = receipt is ReportReceipt.LOST or (
            receipt is ReportReceipt.ACCEPTED and outcome.kind is ReportKind.RELEASE
        )
        disposal = Disposal.RELEASE if kept else Disposal.CONSUME
        self._letting_go.append((run.claim, disposal))

    # --- the entries ----------------------------------------------------------

    def _delete(self) -> None:
        with self._wanted:
            pending, self._letting_go = self._letting_go, []
        for disposal, act in self._acts():
            claims = [claim for claim, what in pending if what is disposal]
            # By session: that one session ended says nothing about claims of another.
            for of_session in _by_session(claims):
                self._let_go(of_session, disposal, act)

    def _let_go(self, claims: list[QueueClaim], disposal: Disposal, act: Act) -> None:
        try:
            act(claims)
        except SessionLostError:
            pass  # the claim nodes ended with their session
        except QueueError as error:
            self._try_again(claims, disposal, error)
            return
        self._board.let_go(claims)

    def _acts(self) -> list[tuple[Disposal, Act]]:
        return [
            (Disposal.CONSUME, self._queue.consume),
            (Disposal.RELEASE, self._queue.release),
        ]

    def _try_again(self, claims: list[QueueClaim], disposal: Disposal, error: QueueError) -> None:
        log.info("queue.retry", entries=len(claims), disposal=disposal, error=error.message)
        with self._wanted:
            if self._stopping:
                return  # ending the session releases them
            self._wanted.wait(RETRY_S)
            self._letting_go += [(claim, disposal) for claim in claims]


def _by_session(claims: Sequence[QueueClaim]) -> list[list[QueueClaim]]:
    found: dict[int, list[QueueClaim]] = {}
    for claim in claims:
        found.setdefault(claim.registration.session_id, []).append(claim)
    return list(found.values())
