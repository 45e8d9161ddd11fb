"""What becomes of a run, as a table: every way to end by every order to stop."""

from __future__ import annotations

import pytest

from actions.grade import Grade
from actions.noop import noop
from executor.outcome import Disposal, Ended, decide_outcome, policy_of, retry_of
from job_engine.errors import (
    ActionFailedError,
    ApiUnavailableError,
    ArchiveError,
    Cancelled,
    ClaimLost,
    Drained,
    ImageUnavailableError,
    Interruption,
    PlatformFaultError,
    RepositoryAwayError,
    SandboxError,
    SandboxRefusedError,
    TimedOut,
)
from job_engine.model import Failure, Fault, Job, JobState
from job_engine.model.protocol.claims import ReportKind
from job_engine.plugins import Result, RetryPolicy

RETRY = RetryPolicy(max_attempts=3, backoff_s=5)

FINISH, RELEASE = ReportKind.FINISH, ReportKind.RELEASE


@pytest.mark.parametrize(
    ("ended", "kind", "state"),
    [
        (None, FINISH, JobState.SUCCESS),
        (Result(), FINISH, JobState.SUCCESS),
        (Result(return_code=3), FINISH, JobState.FAILED),
        (ActionFailedError("no"), FINISH, JobState.FAILED),
        (ArchiveError("no"), FINISH, JobState.FAILED),
        (SandboxRefusedError("no"), FINISH, JobState.FAILED),
        (TimedOut("late"), FINISH, JobState.FAILED),
        (PlatformFaultError("broke"), ReportKind.RETRY, None),
        (SandboxError("broke"), ReportKind.RETRY, None),
        (RepositoryAwayError("503"), ReportKind.RETRY, None),
        (ImageUnavailableError("broke"), ReportKind.RETRY, None),
        (ZeroDivisionError("broke"), ReportKind.RETRY, None),
        (SystemExit(1), ReportKind.RETRY, None),
        (Drained(), RELEASE, None),
    ],
)
def test_without_an_order_to_stop(ended: Ended, kind: ReportKind, state: JobState | None) -> None:
    outcome = decide_outcome(ended, None, 0, RETRY)
    assert (outcome.kind, outcome.state) == (kind, state)


@pytest.mark.parametrize("ended", [None, Result(), SandboxError("killed"), Cancelled()])
@pytest.mark.parametrize(
    ("order", "disposal"), [(ClaimLost(), Disposal.RELEASE), (Cancelled(), Disposal.CONSUME)]
)
def test_nothing_is_reported_for_a_job_that_is_not_ours(
    ended: Ended, order: Interruption, disposal: Disposal
) -> None:
    outcome = decide_outcome(ended, order, 0, RETRY)
    assert (outcome.kind, outcome.disposal) == (None, disposal)


def test_a_result_that_was_complete_when_the_drain_ran_out_counts() -> None:
    assert decide_outcome(Result(), Drained(), 0, RETRY).state is JobState.SUCCESS


def test_an_error_caused_by_an_interruption_is_no_fault() -> None:
    outcome = decide_outcome(SandboxError("closed"), Drained(), 2, RETRY)
    assert outcome.kind is RELEASE


def test_faults_are_retried_later_and_later_and_then_failed() -> None:
    delays = [
        decide_outcome(SandboxError("x"), None, attempts, RETRY).retry_after_s
        for attempts in range(3)
    ]
    assert delays == [5, 10, None]
    last = decide_outcome(SandboxError("the daemon is gone"), None, 2, RETRY)
    assert last.state is JobState.FAILED
    assert last.message is not None
    assert "the daemon is gone" in last.message


def test_a_repository_that_stays_away_is_not_blamed_on_the_platform() -> None:
    error = RepositoryAwayError("git said: 503")
    again, last = (decide_outcome(error, None, attempts, RETRY) for attempts in (0, 2))
    assert again.away
    assert again.message == (
        "The repository's host does not answer (attempt 1 of 3); tried again in 5 s. git said: 503"
    )
    assert last.state is JobState.FAILED
    assert last.message == (
        "The repository's host did not answer in 3 attempts; submit again later. git said: 503"
    )
    assert last.output is not None
    assert Failure.model_validate_json(last.output).fault is Fault.PROGRAM
    assert not decide_outcome(SandboxError("x"), None, 0, RETRY).away


def test_a_host_that_is_away_is_waited_for_longer_than_a_fault_of_the_platform() -> None:
    grade = Grade()
    away = policy_of(grade, RepositoryAwayError("503"))
    delays = [away.delay_s(attempt) for attempt in range(1, away.max_attempts)]
    assert sum(delays) == 310
    assert policy_of(grade, SandboxError("x")) == grade.retry
    # Others know no repositories: how often they may be repeated is for them to say.
    assert policy_of(noop, RepositoryAwayError("503")) == noop.retry


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (SandboxError("x"), Fault.PLATFORM),
        (ImageUnavailableError("x"), Fault.PLATFORM),
        (ZeroDivisionError("x"), Fault.PLATFORM),
        (ArchiveError("x"), Fault.PROGRAM),
        (SandboxRefusedError("x"), Fault.ASSIGNMENT),
    ],
)
def test_a_job_that_ends_without_results_says_whose_fault_it_was(
    error: Exception, fault: Fault
) -> None:
    ended = decide_outcome(error, None, 2, RETRY)
    assert ended.message is not None
    assert ("A fault of the platform" in ended.message) == (fault is Fault.PLATFORM)
    failure = Failure.model_validate_json(ended.output or "")
    assert (failure.fault, failure.message) == (fault, ended.message)


def test_a_fault_that_is_retried_is_called_the_platforms() -> None:
    again = decide_outcome(ImageUnavailableError("no registry"), None, 0, RETRY)
    assert "A fault of the platform (image-missing)" in (again.message or "")
    assert again.output is None


def test_an_actions_own_failure_has_no_verdict() -> None:
    assert decide_outcome(ActionFailedError("no"), None, 0, RETRY).output is None


@pytest.mark.parametrize(
    ("luck", "delays"), [(0.0, [5, 10, 12, 12]), (0.5, [4, 8, 9.6, 9.6]), (1.0, [3, 6, 7.2, 7.2])]
)
def test_retries_come_later_and_later_but_not_all_together(luck: float, delays: list[int]) -> None:
    retry = RetryPolicy(max_attempts=10, backoff_s=5, max_backoff_s=12, jitter=0.4)
    outcomes = [decide_outcome(SandboxError("x"), None, n, retry, luck) for n in range(4)]
    assert [outcome.retry_after_s for outcome in outcomes] == pytest.approx(delays)


def test_a_wait_has_a_limit_however_often_it_is_doubled() -> None:
    assert RetryPolicy(max_backoff_s=300).delay_s(100_000) == 300


@pytest.mark.parametrize(("wanted", "granted"), [(None, 3), (1, 1), (2, 2), (3, 3), (9, 3)])
def test_a_job_may_want_fewer_attempts_than_its_action_allows(
    wanted: int | None, granted: int
) -> None:
    document = {} if wanted is None else {"max-attempts": wanted}
    retry = retry_of(Job(id="job/1", action="noop", document=document), RETRY)
    assert (retry.max_attempts, retry.backoff_s) == (granted, RETRY.backoff_s)
    last = decide_outcome(SandboxError("x"), None, granted - 1, retry)
    assert last.state is JobState.FAILED


def test_without_the_api_the_job_is_only_given_back() -> None:
    outcome = decide_outcome(ApiUnavailableError(), None, 0, RETRY)
    assert (outcome.kind, outcome.disposal) == (None, Disposal.RELEASE)


def test_a_fault_that_carries_a_whole_file_is_told_in_short() -> None:
    once = RetryPolicy(max_attempts=1)
    outcome = decide_outcome(ValueError("begin" + "x" * 3_000_000 + "end"), None, 0, once)
    assert outcome.message is not None
    assert outcome.output is not None
    assert len(outcome.message) < 2500
    assert len(outcome.output) < 5000
    assert "begin" in outcome.message
    assert outcome.message.endswith("end')")
