"""One outcome under any schedule: a store against a small model of what may happen.

Claimers come and go in any order, report late and twice, and somebody cancels. The model
knows only the invariants: a final state is never left, only the newest claim writes, and
the store says the same thing twice.
"""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from job_engine.errors import ConflictError
from job_engine.model import Answer, Fence, JobState
from job_engine.model.protocol.claims import ReportKind, ReportReceipt
from job_engine.store.store import Store
from tests.contract.store.support import add, claim, entry, finish, report, states

FENCES = [Fence(i, c) for i in (1, 2) for c in (1, 2, 3)]


class Claimers(RuleBasedStateMachine):
    """Six possible claims of one job, through two entries."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self.job = add(store)
        self.holder: Fence | None = None
        """Who may write; None: nobody."""
        self.newest: Fence | None = None
        self.outcome: str | None = None

    @rule(fence=st.sampled_from(FENCES), number=st.integers(1, 2))
    def claims(self, fence: Fence, number: int) -> None:
        answer = claim(self.store, self.job, entry(number), fence).answer
        assert answer is claim(self.store, self.job, entry(number), fence).answer
        if self.outcome is not None:
            assert answer is Answer.FINAL
        elif answer.runs:
            assert self.newest is None or fence >= self.newest
            self.holder = self.newest = fence
        elif self.newest is not None and fence < self.newest:
            assert answer is Answer.STALE

    @rule(fence=st.sampled_from(FENCES), kind=st.sampled_from(ReportKind), good=st.booleans())
    def reports(self, fence: Fence, kind: ReportKind, good: bool) -> None:
        if kind is ReportKind.FINISH:
            state = JobState.SUCCESS if good else JobState.FAILED
            receipt = finish(self.store, self.job, fence, state)
        else:
            receipt = report(self.store, self.job, fence, kind)
        if self.outcome is not None:
            assert receipt is ReportReceipt.FINAL
            return
        assert (receipt is ReportReceipt.ACCEPTED) == (fence == self.holder)
        if receipt is not ReportReceipt.ACCEPTED:
            assert receipt is ReportReceipt.LOST
        elif kind is ReportKind.FINISH:
            self.outcome = "SUCCESS" if good else "FAILED"
        elif kind is not ReportKind.PROGRESS:
            self.holder = None

    @rule()
    def cancels(self) -> None:
        try:
            self.store.jobs.cancel(self.job, lambda _: None, None)
        except ConflictError:
            assert self.outcome is not None
        else:
            assert self.outcome is None
            self.outcome = "CANCELED"

    @invariant()
    def the_document_agrees(self) -> None:
        found = self.store.jobs.get(self.job)
        if self.outcome is not None:
            assert found["state"] == self.outcome
        else:
            assert found["state"] == ("QUEUED" if self.holder is None else "RUNNING")
        ends = [s for job, s in states(self.store) if job == self.job and JobState(s).is_final]
        assert len(ends) == (0 if self.outcome is None else 1)


def test_any_schedule_has_one_outcome(store: Store) -> None:
    class OfThisStore(Claimers):
        def __init__(self) -> None:
            super().__init__(store)

    run_state_machine_as_test(
        OfThisStore,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
