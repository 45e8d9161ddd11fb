"""Answering claims by one pure function, on which fenced and one-outcome rest."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from job_engine.model.fence import Fence
from job_engine.model.job import MAX_INTERRUPTIONS, OLDEST_VERSION, ExecutionMode, Job, JobState
from job_engine.model.verdict import FinalVerdict

EXPIRED: Final = (
    "Expired: nothing had started the job by its `expiry`. Resubmit it, or send it again "
    "with a later one."
)
"""Message of a job that failed because it waited too long."""


class Answer(StrEnum):
    """The API's answer to a claim, and what the executor then does with the entry."""

    RUN = "run"
    RESUME = "resume"
    DUPLICATE = "duplicate"
    NOT_DUE = "not-due"
    FINAL = "final"
    GONE = "gone"
    UNSUPPORTED = "unsupported"
    STALE = "stale"

    @property
    def runs(self) -> bool:
        """The executor runs the job."""
        return self in (Answer.RUN, Answer.RESUME)

    @property
    def consumes(self) -> bool:
        """The executor deletes the entry."""
        return self in (Answer.DUPLICATE, Answer.NOT_DUE, Answer.FINAL)


@dataclass(frozen=True)
class Claim:
    """A claim of a job: the queue entry that was claimed, and the fence of the claim."""

    job_id: str
    entry: str
    fence: Fence


@dataclass(frozen=True)
class Ability:
    """What the claiming executor can run: `actions`, of versions up to `version`.

    The executor sends it, because it may be of another release than the API.
    """

    actions: Set[str]
    version: int = OLDEST_VERSION


@dataclass(frozen=True)
class Decision:
    """The answer to a claim, and the changes of the job.

    If `failure` is set, the job becomes FAILED with this message, and with `verdict` if that
    is set; the answer is `final`.
    """

    answer: Answer
    interruptions: int = 0
    failure: str | None = None
    verdict: FinalVerdict | None = None


def decide_claim(job: Job | None, claim: Claim, ability: Ability, now_ms: int) -> Decision:
    """Answer one claim.

    Args:
        job: the job as stored; None: it does not exist.
        claim: the claim to answer.
        ability: what the executor can run.
        now_ms: the store's clock, in epoch milliseconds.

    `run` and `resume` move the job to RUNNING, with `claim.fence`, `claim.entry` and the
    decision's `interruptions`. Any other answer changes nothing, unless `failure` is set.
    """
    if job is None:
        return Decision(Answer.GONE)
    if job.state.is_final:
        return Decision(Answer.FINAL)
    if job.fence is not None and claim.fence < job.fence:
        return Decision(Answer.STALE)
    if job.state is JobState.RUNNING:
        return _decide_running(job, claim, ability)
    if job.fence == claim.fence:
        # A late duplicate: the executor has given the job back under this very claim.
        return Decision(Answer.STALE)
    if job.expiry_ms is not None and job.expiry_ms <= now_ms:
        return Decision(Answer.FINAL, failure=EXPIRED)
    if job.execution_mode is ExecutionMode.PULL:
        return Decision(Answer.NOT_DUE)
    if job.not_before_ms is not None and now_ms < job.not_before_ms:
        return Decision(Answer.NOT_DUE)
    return _unless_unsupported(job, ability, Decision(Answer.RUN, job.interruptions))


def _decide_running(job: Job, claim: Claim, ability: Ability) -> Decision:
    if job.entry != claim.entry and not _runs_off_the_record(job):
        return Decision(Answer.DUPLICATE)
    if job.fence == claim.fence:
        again = Answer.RESUME if job.resumed else Answer.RUN
        return Decision(again, job.interruptions)
    if job.interruptions >= MAX_INTERRUPTIONS:
        return Decision(
            Answer.FINAL,
            failure=f"A fault of the platform ({FinalVerdict.EXECUTOR_LOST}): interrupted "
            f"{job.interruptions + 1} times without a word from the executor; given up. Look for "
            "executors that are killed while they run this action.",
            verdict=FinalVerdict.EXECUTOR_LOST,
        )
    resumed = Decision(Answer.RESUME, job.interruptions + 1)
    return _unless_unsupported(job, ability, resumed)


def _runs_off_the_record(job: Job) -> bool:
    """Return whether a foreign consumer claimed the job before its entry was recorded.

    That consumer may have died, and this entry may be the only one left (no-silent-loss).
    """
    foreign = job.fence is None and job.execution_mode is not ExecutionMode.PULL
    return foreign and job.entry is None


def _unless_unsupported(job: Job, ability: Ability, otherwise: Decision) -> Decision:
    if job.version < OLDEST_VERSION:
        return Decision(
            Answer.FINAL,
            failure=f"Job v{job.version} is not supported by this job engine, which runs "
            f"v{OLDEST_VERSION} and newer; create the job again without `version`.",
        )
    if job.version > ability.version or job.action not in ability.actions:
        return Decision(Answer.UNSUPPORTED)
    return otherwise
