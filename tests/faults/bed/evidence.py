"""What the checker judges by: plain values, which tests make by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.faults.bed.journal import Death, Fault, Restore, Start
from tests.support.trace import Execution


@dataclass
class Submission:
    """One job as its submitter knows it. Times are monotonic seconds."""

    tag: str
    action: str = "trace"
    priority: int = 500
    fails: bool = False
    """Whether its execution says that it failed."""
    cancel: bool = False
    """Whether a cancel was sent once it was accepted."""
    sent_at: float = 0.0
    answered_at: float | None = None
    """When the 201 came; None: it never did, and nobody knows."""
    job: str | None = None
    cancelled_at: float | None = None
    """When the API said that it is cancelled."""


@dataclass(frozen=True)
class Document:
    """A job as the API tells of it."""

    job: str
    action: str
    state: str
    run: str
    """Last word of its message: the execution that it claims to be the outcome of."""
    message: str
    tag: str


@dataclass(frozen=True)
class Observation:
    """A job that was seen final during the run."""

    at: float
    """When the answer had arrived."""
    document: Document


@dataclass(frozen=True)
class Evidence:
    """Everything that is known about a run."""

    submissions: Sequence[Submission]
    executions: Mapping[str, Sequence[Execution]]
    """By job, from the trace that executions write themselves."""
    first: Mapping[str, Document]
    """Every job, by its id, once none was left to run."""
    second: Mapping[str, Document]
    """The same, read again later."""
    observations: Sequence[Observation] = ()
    faults: Sequence[Fault] = ()
    restores: Sequence[Restore] = ()
    starts: Sequence[Start] = ()
    deaths: Sequence[Death] = ()
    leftovers: Sequence[str] = ()
    exits: Mapping[str, int] = field(default_factory=dict)
    """Exit codes of processes that were asked to stop in the end."""
    in_docker: Sequence[str] = ()
    """Executors whose sandboxes are Docker's, which outlive them."""
    threads: int = 24
    """Worker threads of all executors together."""
