"""One outcome under any schedule: a store against a small model of what may happen.

Claimers come and go in any order, report late and twice, and somebody cancels. The model
knows only the invariants: a final state is never left, only the newest claim writes, and
the store says the same thing twice.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from job_engine.errors import ConflictError
from job_engine.model import Answer, Fence, JobState
from job_engine.model.protocol import Receipt, ReportKind
from job_engine.store.factory import open_store
from tests.contract.store.support import Clock, add, claim, entry, finish, report

FENCES = [Fence(i, c) for i in (1, 2) for c in (1, 2, 3)]


class Claimers(RuleBasedStateMachine):
    """Six possible claims of one job, through two entries."""

    @initialize()
    def open(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.clock = Clock()
        self.store = open_store(f"sqlite:///{self.directory / 'store.sqlite'}", self.clock)
        self.store.start()
        self.job = add(self.store)
        self.holder: Fence | None = None
        """Who may write; None: nobody."""
        self.newest: Fence | None = None
        self.outcome: str | None = None

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.stop()
            shutil.rmtree(self.directory)

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
            assert receipt is Receipt.FINAL
            return
        assert (receipt is Receipt.ACCEPTED) == (fence == self.holder)
        if receipt is not Receipt.ACCEPTED:
            assert receipt is Receipt.LOST
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
        if not hasattr(self, "store"):
            return
        found = self.store.jobs.get(self.job)
        if self.outcome is not None:
            assert found["state"] == self.outcome
        else:
            assert found["state"] == ("QUEUED" if self.holder is None else "RUNNING")
        ends = [e for e in self.store.events.after(0).events if e.event.state.is_final]
        assert len(ends) == (0 if self.outcome is None else 1)


TestClaimers = Claimers.TestCase
TestClaimers.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
