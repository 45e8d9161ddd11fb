"""Reports that are refused, and entries that are let go of, each without harm to the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import pytest
import requests

from executor.board import Board
from executor.breaker import Breaker
from executor.outcome import Disposal, Outcome, decide_outcome
from executor.pending import CHARACTERS, PendingReport, batches
from executor.reporter import Reporter
from executor.run import Run
from job_engine.client import Api, RefusedError
from job_engine.errors import (
    ApiError,
    PlatformFaultError,
    QueueError,
    RepositoryAwayError,
    SessionLostError,
)
from job_engine.model.protocol.claims import Report, ReportKind, ReportReceipt, ReportRequest
from job_engine.plugins import Result, RetryPolicy
from job_engine.queue import QueueClaim
from tests.support.engine import eventually
from tests.unit.executor.support import claim_of, run_of

LIMIT = 2000


class SmallApi:
    """Takes reports as the API does, up to a body of `LIMIT` bytes; says no to everything
    while `closed`."""

    def __init__(self) -> None:
        self.closed = False
        self.revoked = False
        self.asked = 0
        self.taken: list[Report] = []

    def report(self, request: ReportRequest) -> list[ReportReceipt]:
        """See `Api`."""
        self.asked += 1
        if self.revoked:
            answer = requests.Response()
            answer.status_code = 403
            raise RefusedError("The API refused (403): no credentials", answer)
        body = request.model_dump_json()
        if self.closed or len(body) > LIMIT:
            raise ApiError("The API refused (413): too large")
        self.taken += ReportRequest.model_validate_json(body).reports
        return [ReportReceipt.ACCEPTED for _ in request.reports]

    def of(self, run: Run) -> list[ReportKind]:
        """What was told of a run, but for its progress."""
        kinds = [report.kind for report in self.taken if report.job == run.job.id]
        return [kind for kind in kinds if kind is not ReportKind.PROGRESS]


class Deletions:
    """Notes what is let go of; one session is over, and answers may fail to come."""

    def __init__(self) -> None:
        self.over = 0
        self.unanswered = 0
        self.consumed: list[str] = []
        self.released: list[str] = []

    def _delete(self, claims: Sequence[QueueClaim], into: list[str]) -> None:
        for claim in claims:
            if claim.registration.session_id == self.over:
                raise SessionLostError
            if self.unanswered:
                self.unanswered -= 1
                raise QueueError
            into.append(claim.entry)

    def consume(self, claims: Sequence[QueueClaim]) -> None:
        """See the base class."""
        self._delete(claims, self.consumed)

    def release(self, claims: Sequence[QueueClaim]) -> None:
        """See the base class."""
        self._delete(claims, self.released)


class Parts:
    """A reporter and what is around it."""

    def __init__(self) -> None:
        self.api = SmallApi()
        self.queue = Deletions()
        self.board = Board(8)
        self.breaker = Breaker(lambda: False)
        self.reporter = Reporter(
            cast(Api, self.api), self.queue, self.board, self.breaker, "executor-1"
        )

    def running(self, number: int, tmp_path: Path, **more: int) -> Run:
        """A run that holds its claim."""
        claim = claim_of(number, **more)
        run = run_of(claim, tmp_path)
        self.board.hold([claim])
        self.board.add(run)
        return run

    def end(self, *runs: Run, output: str | None = None) -> None:
        """The runs succeed."""
        for run in runs:
            self.reporter.end(run, success(output))
            self.board.remove(run)


def success(output: str | None = None) -> Outcome:
    return decide_outcome(Result(output=output), None, 0, RetryPolicy())


@pytest.fixture
def parts() -> Iterator[Parts]:
    made = Parts()
    yield made
    made.reporter.stop(5)


def test_a_refused_report_of_one_run_does_not_affect_the_others(
    parts: Parts, tmp_path: Path
) -> None:
    good = [parts.running(n, tmp_path) for n in range(4)]
    loud = parts.running(9, tmp_path)
    going_on = parts.running(10, tmp_path)
    parts.end(*good[:2])
    parts.end(loud, output="x" * LIMIT)
    parts.end(*good[2:])
    parts.reporter.start()
    eventually(lambda: len(parts.queue.consumed) == 5)
    assert [parts.api.of(run) for run in good] == [[ReportKind.FINISH]] * 4
    # no-silent-loss: it is given back, counted, and says why.
    assert parts.api.of(loud) == [ReportKind.RETRY]
    (pending,) = [r for r in parts.api.taken if r.job == loud.job.id]
    assert "413" in (pending.status_message or "")
    assert going_on.interruption is None
    assert not parts.breaker.open


def test_log_lines_that_are_refused_do_not_end_the_run(parts: Parts, tmp_path: Path) -> None:
    run = parts.running(1, tmp_path)
    run.log("x" * LIMIT)
    parts.reporter.update(run)
    parts.reporter.start()
    eventually(lambda: parts.api.taken)
    assert run.interruption is None
    assert not parts.breaker.open


def test_an_api_that_refuses_everything_counts_as_down(parts: Parts, tmp_path: Path) -> None:
    parts.api.closed = True
    going_on, over = parts.running(1, tmp_path), parts.running(2, tmp_path)
    parts.end(over)
    parts.reporter.update(going_on)
    parts.reporter.start()
    eventually(lambda: parts.queue.released == [over.claim.entry])
    assert parts.breaker.open
    assert going_on.interruption is not None


def test_whose_key_is_revoked_gives_everything_back_and_asks_once(
    parts: Parts, tmp_path: Path
) -> None:
    parts.api.revoked = True
    going_on, *over = [parts.running(n, tmp_path) for n in range(4)]
    parts.end(*over)
    parts.reporter.start()
    eventually(lambda: len(parts.queue.released) == 3)
    assert (parts.api.asked, parts.breaker.open) == (1, True)
    assert going_on.interruption is not None


def test_the_end_of_one_session_keeps_no_claim_of_another(parts: Parts) -> None:
    """A claim that is forgotten while its session lives is lost for as long as it lives."""
    parts.queue.over = 1
    old, new = claim_of(1, session_id=1), claim_of(2, session_id=2)
    parts.board.hold([old, new])
    parts.reporter.let_go([old, new], Disposal.RELEASE)
    parts.reporter.start()
    assert parts.board.wait_empty(10)
    assert parts.queue.released == [new.entry]


def test_a_deletion_without_an_answer_is_done_again(parts: Parts) -> None:
    parts.queue.unanswered = 2
    claim = claim_of(1)
    parts.board.hold([claim])
    parts.reporter.let_go([claim], Disposal.CONSUME)
    parts.reporter.start()
    assert parts.board.wait_empty(10)
    assert parts.queue.consumed == [claim.entry]


@pytest.mark.parametrize("text", ["\x00", "\udcff", "name-\udc80.c"])
def test_nothing_is_told_that_cannot_be_stored(tmp_path: Path, text: str) -> None:
    run = run_of(claim_of(1), tmp_path)
    run.log(text)
    run.progress(1, text)
    pending = PendingReport.end(run, success(output=text))
    assert not pending.bare
    read = Report.model_validate_json(pending.report.model_dump_json())
    assert text not in (read.output or "") + (read.status_message or "") + "".join(read.log)
    assert "�" in (read.output or "")


@pytest.mark.parametrize("result", [Result(return_code=-9), Result(output=5)])  # type: ignore[arg-type]
def test_a_result_that_is_none_is_a_fault(tmp_path: Path, result: Result) -> None:
    run = run_of(claim_of(1), tmp_path)
    pending = PendingReport.end(run, decide_outcome(result, None, 0, RetryPolicy()))
    assert pending.report.kind is ReportKind.RETRY


def test_only_a_host_that_is_away_is_told_as_such(tmp_path: Path) -> None:
    def told(error: Exception) -> dict[str, object]:
        outcome = decide_outcome(error, None, 0, RetryPolicy())
        end = PendingReport.end(run_of(claim_of(1), tmp_path), outcome)
        return end.report.model_dump()

    assert told(RepositoryAwayError("503"))["away"] is True
    # An API of an older release does not know the key.
    assert "away" not in told(PlatformFaultError("broke"))


def test_requests_stay_below_what_the_api_takes(tmp_path: Path) -> None:
    pending = [
        PendingReport.end(run_of(claim_of(n), tmp_path), success("x" * 900_000)) for n in range(5)
    ]
    cut = list(batches(pending))
    assert [one for batch in cut for one in batch] == pending
    assert all(sum(one.characters for one in batch) <= CHARACTERS for batch in cut)
    assert len(cut) == 3
