"""Answering claims, by one pure function: the core of fenced and one-outcome."""

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
    """A claim as it reaches the API: which job, through which entry, under which fence."""

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
    """The answer to a claim, and what changes with it.

    `failure` is set if the claim itself ends the job: it becomes FAILED with this message,
    and the answer is `final`; `verdict` is set if there is a more precise one.
    """

    answer: Answer
    interruptions: int = 0
    failure: str | None = None
    verdict: FinalVerdict | None = None


def decide_claim(job: Job | None, claim: Claim, ability: Ability, now_ms: int) -> Decision:
    """Answer one claim.

    `ability` is what the executor can run, `now_ms` is the store's clock.
    A `run` or `resume` moves the job to RUNNING under `claim.fence` and
    `claim.entry`, with the decision's `interruptions`; no other answer writes
    anything, but for `failure`.
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
        # This claim has given the job back already; the message is a late duplicate.
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
    """Whether a foreign consumer runs it that took an entry which nobody had recorded.

    Its claim node may be gone, and this entry the last that there is (no-silent-loss).
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
