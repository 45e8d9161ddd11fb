"""Runs of made-up actions, without an executor around them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from executor.run import Run
from job_engine.model import Fence, Job
from job_engine.plugins import Action, Context, action
from job_engine.queue import QueueClaim, Registration


@action("idle")
def idle(_context: Context[Any]) -> None:
    """Do nothing."""


@action("swift", short=True)
def swift(_context: Context[Any]) -> None:
    """Do nothing, and say that it takes no time."""


def claim_of(number: int, session_id: int = 1, czxid: int = 1) -> QueueClaim:
    """A claim of entry `number`."""
    registration = Registration(session_id, f"/executors/x-{session_id}", 1)
    name = f"entry-999-{number:010d}"
    return QueueClaim(name, f"job/{number}", Fence(1, czxid), registration)


def run_of(claim: QueueClaim, tmp_path: Path, of: Action[Any] = idle, attempts: int = 0) -> Run:
    """A run under that claim."""
    return Run(
        job=Job(id=claim.job_id, action=of.name, attempts=attempts),
        claim=claim,
        action=of,
        collaborators={},
        scratch_root=tmp_path,
        on_update=lambda _run: None,
    )
