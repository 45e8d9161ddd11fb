"""The answers to a claim, as a table: every state of the job by every kind of claim."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job_engine.model import (
    EXPIRED,
    MAX_INTERRUPTIONS,
    Ability,
    Answer,
    Claim,
    ExecutionMode,
    Fence,
    Job,
    JobState,
    decide_claim,
)

ENTRY, OTHER = "entry-999-0000000001", "entry-999-0000000002"
OLD, CURRENT, NEW = Fence(1, 10), Fence(1, 20), Fence(1, 30)
NOW_MS = 1_000_000
ABLE = Ability(frozenset({"noop"}), 2)


def job(state: JobState = JobState.QUEUED, **changes: object) -> Job:
    return Job(id="job/1", action="noop", state=state).evolve(**changes)


def running(**changes: object) -> Job:
    return job(JobState.RUNNING, entry=ENTRY, fence=CURRENT).evolve(**changes)


@pytest.mark.parametrize(
    ("stored", "entry", "fence", "answer"),
    [
        (None, ENTRY, NEW, Answer.GONE),
        (job(), ENTRY, NEW, Answer.RUN),
        (job(entry=OTHER), ENTRY, NEW, Answer.RUN),
        (job(not_before_ms=NOW_MS + 1), ENTRY, NEW, Answer.NOT_DUE),
        (job(not_before_ms=NOW_MS), ENTRY, NEW, Answer.RUN),
        (job(execution_mode=ExecutionMode.PULL), ENTRY, NEW, Answer.NOT_DUE),
        (job(expiry_ms=NOW_MS), ENTRY, NEW, Answer.FINAL),
        (job(expiry_ms=NOW_MS, not_before_ms=NOW_MS + 1), ENTRY, NEW, Answer.FINAL),
        (job(expiry_ms=NOW_MS + 1), ENTRY, NEW, Answer.RUN),
        # A packet that comes late ends nothing, and what runs has its action's timeout.
        (job(expiry_ms=NOW_MS, fence=CURRENT), ENTRY, OLD, Answer.STALE),
        (running(expiry_ms=NOW_MS), ENTRY, NEW, Answer.RESUME),
        (job(action="other"), ENTRY, NEW, Answer.UNSUPPORTED),
        (job(version=3), ENTRY, NEW, Answer.UNSUPPORTED),
        # A packet that comes late, after this very claim gave the job back.
        (job(fence=CURRENT), ENTRY, CURRENT, Answer.STALE),
        (job(fence=CURRENT), ENTRY, OLD, Answer.STALE),
        (job(fence=CURRENT), ENTRY, NEW, Answer.RUN),
        (running(), ENTRY, NEW, Answer.RESUME),
        (running(), OTHER, NEW, Answer.DUPLICATE),
        (running(), ENTRY, OLD, Answer.STALE),
        # The same fence twice is the same claim, with the same answer.
        (running(), ENTRY, CURRENT, Answer.RUN),
        (running(resumed=True), ENTRY, CURRENT, Answer.RESUME),
        # A foreign consumer ran it, and its claim node is gone.
        (running(fence=None), ENTRY, NEW, Answer.RESUME),
        (running(fence=None), OTHER, NEW, Answer.DUPLICATE),
        # It took an entry that nobody had recorded: any may be the one, and the last.
        (running(fence=None, entry=None), ENTRY, NEW, Answer.RESUME),
        # An agent runs it, which takes nothing from the queue.
        (
            running(fence=None, entry=None, execution_mode=ExecutionMode.PULL),
            ENTRY,
            NEW,
            Answer.DUPLICATE,
        ),
        # A wiped ZooKeeper restarts its zxids under a newer incarnation.
        (running(), ENTRY, Fence(2, 1), Answer.RESUME),
        (job(JobState.SUCCESS), ENTRY, NEW, Answer.FINAL),
        (job(JobState.FAILED, fence=CURRENT), ENTRY, OLD, Answer.FINAL),
        (job(JobState.CANCELED), ENTRY, NEW, Answer.FINAL),
    ],
)
def test_answers(stored: Job | None, entry: str, fence: Fence, answer: Answer) -> None:
    assert decide_claim(stored, Claim("job/1", entry, fence), ABLE, NOW_MS).answer is answer


def test_a_job_that_keeps_killing_its_executor_is_failed() -> None:
    stored = running(interruptions=MAX_INTERRUPTIONS)
    decision = decide_claim(stored, Claim("job/1", ENTRY, NEW), ABLE, NOW_MS)
    assert decision.answer is Answer.FINAL
    assert decision.failure is not None


def test_an_expired_job_is_failed_with_a_reason() -> None:
    decision = decide_claim(job(expiry_ms=NOW_MS), Claim("job/1", ENTRY, NEW), ABLE, NOW_MS)
    assert decision.failure == EXPIRED


def test_a_job_too_old_is_failed_with_a_reason() -> None:
    decision = decide_claim(job(version=1), Claim("job/1", ENTRY, NEW), ABLE, NOW_MS)
    assert decision.answer is Answer.FINAL
    assert decision.failure is not None
    assert "Job v1 is not supported" in decision.failure


def test_the_executor_says_which_versions_it_runs() -> None:
    newer = Ability(frozenset({"noop"}), 3)
    claim = Claim("job/1", ENTRY, NEW)
    assert decide_claim(job(version=3), claim, newer, NOW_MS).answer is Answer.RUN
    assert decide_claim(job(version=2), claim, newer, NOW_MS).answer is Answer.RUN
    assert decide_claim(job(version=4), claim, newer, NOW_MS).answer is Answer.UNSUPPORTED
    assert decide_claim(job(version=1), claim, newer, NOW_MS).answer is Answer.FINAL


def test_each_resume_counts_as_one_interruption() -> None:
    decision = decide_claim(running(interruptions=3), Claim("job/1", ENTRY, NEW), ABLE, NOW_MS)
    assert decision.interruptions == 4


fences = st.builds(Fence, st.integers(1, 3), st.integers(1, 5))


@given(
    state=st.sampled_from([JobState.QUEUED, JobState.RUNNING]),
    known=st.none() | fences,
    fence=fences,
    entry=st.sampled_from([ENTRY, OTHER]),
)
def test_no_older_claim_ever_runs(
    state: JobState, known: Fence | None, fence: Fence, entry: str
) -> None:
    """fenced: whatever the schedule, a claim only runs if none newer is known."""
    stored = job(state, fence=known, entry=ENTRY)
    decision = decide_claim(stored, Claim("job/1", entry, fence), ABLE, NOW_MS)
    if decision.answer.runs and known is not None:
        assert fence >= known
