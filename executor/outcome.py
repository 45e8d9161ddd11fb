"""Deciding the outcome of a run, by one pure function (`decide_outcome`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from job_engine.errors import (
    ActionFailedError,
    ApiUnavailableError,
    Cancelled,
    ClaimLost,
    Drained,
    GradingError,
    Interruption,
    JobEngineError,
    RepositoryAwayError,
    SandboxRefusedError,
    TimedOut,
)
from job_engine.log import cut
from job_engine.model import Failure, Job, JobState, verdict_of
from job_engine.model.protocol.claims import ReportKind
from job_engine.plugins import Action, Result, RetryPolicy

MAX_REASON_CHARS: Final = 2000
"""Longest error, in characters, in the message about a platform fault."""
FAILED: Final = 1
"""Return code of a job that ended with an error of its own."""


class Disposal(StrEnum):
    """What to do with the queue entry of a run for which nothing is reported."""

    CONSUME = "consume"
    RELEASE = "release"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Either a report (`kind`), or only a `disposal` of the queue entry."""

    kind: ReportKind | None = None
    state: JobState | None = None
    return_code: int | None = None
    message: str | None = None
    output: str | None = None
    retry_after_s: float | None = None
    away: bool = False
    """Whether a retry is due to a repository's host that is away."""
    disposal: Disposal | None = None


Ended = Result | BaseException | None
"""What `Action.run` returned or raised."""


def policy_of(action: Action[Any], ended: Ended) -> RetryPolicy:
    """Return the policy of an action by which a run that ended like this is retried."""
    if isinstance(ended, RepositoryAwayError):
        return action.retry_away or action.retry
    return action.retry


def retry_of(job: Job, retry: RetryPolicy) -> RetryPolicy:
    """Return the policy by which a job is retried: its action's `retry`, or fewer attempts.

    A job's `max-attempts` cannot exceed that of its action, whose author knows how often it
    is safe to repeat.
    """
    wanted = job.document.get("max-attempts")
    if wanted is None or wanted >= retry.max_attempts:
        return retry
    return replace(retry, max_attempts=wanted)


def decide_outcome(
    ended: Ended,
    interruption: Interruption | None,
    attempts: int,
    retry: RetryPolicy,
    luck: float = 0.0,
) -> Outcome:
    """Return the outcome of a run.

    Args:
        ended: what the action returned or raised.
        interruption: what the run was interrupted by, if it was.
        attempts: platform faults before this run, and runs that met a host that was away. So a
            fault that follows those has fewer attempts left, if any.
        retry: how often and after how long the job is retried.
        luck: a random number from 0 to 1, which spreads retries (`RetryPolicy.delay_s`).

    A result that was complete before the interruption is kept, unless the claim is lost
    or the job is final already.
    """
    if isinstance(interruption, ClaimLost):
        return Outcome(disposal=Disposal.RELEASE)
    if isinstance(interruption, Cancelled):
        return Outcome(disposal=Disposal.CONSUME)
    if isinstance(ended, BaseException) and interruption is not None:
        # The error is a consequence: the interruption closed the sandbox.
        ended = interruption
    if isinstance(ended, BaseException):
        return _of_error(ended, attempts, retry, luck)
    return _of_result(ended or Result())


def _of_result(result: Result) -> Outcome:
    return Outcome(
        kind=ReportKind.FINISH,
        state=JobState.FAILED if result.return_code else JobState.SUCCESS,
        return_code=result.return_code,
        message=result.message,
        output=result.output,
    )


def _of_error(error: BaseException, attempts: int, retry: RetryPolicy, luck: float) -> Outcome:
    match error:
        case Drained():
            return Outcome(kind=ReportKind.RELEASE)
        case ApiUnavailableError():
            return Outcome(disposal=Disposal.RELEASE)
        case RepositoryAwayError():
            return _away(error, attempts + 1, retry, luck)
        case TimedOut() | ActionFailedError() | GradingError() | SandboxRefusedError():
            return _failed(error, str(error))
        case _:
            return _fault(error, attempts + 1, retry, luck)


def _fault(error: BaseException, attempts: int, retry: RetryPolicy, luck: float) -> Outcome:
    reason = cut(str(error) if isinstance(error, JobEngineError) else repr(error), MAX_REASON_CHARS)
    fault = f"A fault of the platform ({verdict_of(error)})"
    if attempts >= retry.max_attempts:
        return _failed(
            error,
            f"{fault}: given up after {attempts} attempts. The last one ended with: {reason}",
        )
    delay_s = _delay_s(attempts, retry, luck)
    again = f"attempt {attempts} broke and is repeated in {delay_s:g} s"
    return _retried(delay_s, f"{fault}: {again}: {reason}")


def _away(error: RepositoryAwayError, attempts: int, retry: RetryPolicy, luck: float) -> Outcome:
    reason = cut(error.message, MAX_REASON_CHARS)
    host = "The repository's host"
    if attempts >= retry.max_attempts:
        return _failed(
            error, f"{host} did not answer in {attempts} attempts; submit again later. {reason}"
        )
    delay_s = _delay_s(attempts, retry, luck)
    again = f"(attempt {attempts} of {retry.max_attempts}); tried again in {delay_s:g} s"
    return _retried(delay_s, f"{host} does not answer {again}. {reason}", away=True)


def _delay_s(attempts: int, retry: RetryPolicy, luck: float) -> float:
    return round(retry.delay_s(attempts, luck), 3)


def _retried(delay_s: float, message: str, *, away: bool = False) -> Outcome:
    return Outcome(kind=ReportKind.RETRY, message=message, retry_after_s=delay_s, away=away)


def _failed(error: BaseException, message: str) -> Outcome:
    verdict = verdict_of(error)
    return Outcome(
        kind=ReportKind.FINISH,
        state=JobState.FAILED,
        return_code=FAILED,
        message=message,
        output=None if verdict is None else Failure.of(verdict, message).model_dump_json(),
    )
