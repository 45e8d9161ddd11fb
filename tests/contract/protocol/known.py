"""One job as the model has it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from job_engine.model import Fence, JobState


@dataclass(frozen=True)
class Known:
    """One job as it has to be."""

    action: str
    state: JobState = JobState.QUEUED
    entry: str | None = None
    fence: Fence | None = None
    due_ms: int | None = None
    interruptions: int = 0
    attempts: int = 0
    resumed: bool = False
    touched_ms: int = 0
    """When a client edited it last."""
    pushes_due: int = 1
    """How often leaders may still push it: once at first, and once for each entry it lost."""

    @property
    def waits(self) -> bool:
        """Whether its entry waits in the queue."""
        return self.state is JobState.QUEUED and self.entry is not None

    @property
    def runs_abroad(self) -> bool:
        """Whether a foreign consumer runs it, or ran it."""
        return self.state is JobState.RUNNING and self.fence is None

    @property
    def runs_off_the_record(self) -> bool:
        """Whether a foreign consumer took it by an entry that nobody had recorded."""
        return self.runs_abroad and self.entry is None

    @property
    def may_lose_its_entry(self) -> bool:
        """Whether it is queued again once its entry is gone; a foreign run is not."""
        runs = self.state is JobState.RUNNING and self.fence is not None
        return runs or self.state is JobState.QUEUED

    def without_entry(self) -> Known:
        """The job QUEUED again, and to be pushed once more."""
        pushes_due = self.pushes_due + 1
        return replace(self, state=JobState.QUEUED, entry=None, pushes_due=pushes_due)

    def pushable(self) -> Known:
        """The job after a disaster: pushed again just where it has no entry."""
        return replace(self, pushes_due=1 if self.entry is None else 0)
