"""The job: a frozen value, its states, and the table of their transitions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, Self

from job_engine.model.fence import Fence

DEFAULT_PRIORITY: Final = 999
"""Priority of a job whose creator named none; lower is more urgent, 0 to 999."""

SUPPORTED_VERSION: Final = 2
"""The newest job version (compatibility level) that executors of this release run."""

OLDEST_VERSION: Final = 2
"""The oldest job version that is run; also that of executors which do not report theirs."""

MAX_INTERRUPTIONS: Final = 10
"""Claims of one job that may end without a report; with the next one the job is failed."""


class JobState(StrEnum):
    """The state of a job; the last three are final."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    CANCELED = "CANCELED"

    @property
    def is_final(self) -> bool:
        """Whether no other state can follow."""
        return not TRANSITIONS[self]


TRANSITIONS: Final = MappingProxyType(
    {
        JobState.QUEUED: frozenset(JobState),
        JobState.RUNNING: frozenset(JobState),
        JobState.SUCCESS: frozenset[JobState](),
        JobState.FAILED: frozenset[JobState](),
        JobState.CANCELED: frozenset[JobState](),
    }
)
"""States that may follow each state (CIMI allows every step out of a non-final one)."""

FINAL_STATES: Final = frozenset(s for s, following in TRANSITIONS.items() if not following)


class ExecutionMode(StrEnum):
    """Who runs a job: an executor (push), an agent that polls the API (pull), or both in turn."""

    PUSH = "push"
    PULL = "pull"
    MIXED = "mixed"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job as executors and distributors see it. Times are epoch milliseconds.

    The fields are the attributes that the engine's own decisions depend on; `document` is the
    whole CIMI document, with its kebab-case names.
    """

    id: str
    """`job/<uuid>`."""
    action: str
    state: JobState = JobState.QUEUED
    priority: int = DEFAULT_PRIORITY
    execution_mode: ExecutionMode = ExecutionMode.PUSH
    version: int = SUPPORTED_VERSION
    created_ms: int = 0
    not_before_ms: int | None = None
    """Earliest time at which it may run, set by its creator or a retry; None: at once."""
    expiry_ms: int | None = None
    """Time at which it fails unless it was started before; None: never."""
    entry: str | None = None
    """Name of the queue entry that carries this job; None: not pushed."""
    share: str = ""
    """The share that it belongs to (fair share): its `parent`, else its creator."""
    fence: Fence | None = None
    """The newest claim that is known; None: never claimed, or claimed by a foreign consumer."""
    resumed: bool = False
    """Whether the newest claim was answered `resume`."""
    attempts: int = 0
    """Runs that ended with a platform fault, or met a repository's host that was away."""
    interruptions: int = 0
    """Claims that ended without a report."""
    payload: str | None = None
    """JSON text, as the client sent it."""
    document: dict[str, Any] = field(default_factory=dict)

    def evolve(self, **changes: Any) -> Self:
        """Return a copy with `changes` applied."""
        return replace(self, **changes)
