"""Receipts: records of the exact inputs of a grading. Also checks a replay against its receipt."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO

from job_engine import __version__
from job_engine.errors import ReplayRefusedError
from job_engine.grading.assignment import Assignment
from job_engine.grading.bundles import Bundle
from job_engine.grading.plan import Plan
from job_engine.grading.results.model import Receipt, Rerun
from job_engine.grading.submission import Replay, Submission
from job_engine.sandbox.base import PhaseResult, Sandbox


@dataclass(frozen=True, kw_only=True)
class JobFacts:
    """Facts about a job that are known before its submission is graded."""

    executor: str
    attempts: int = 1
    """Number of this attempt, from 1; earlier ones ended with a platform fault, or met a host that
    was away."""
    interruptions: int = 0
    """Runs that ended without a report."""
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    """When the job was created."""


def make_receipt(
    job_facts: JobFacts,
    submission: Submission,
    identity: str,
    assignment: Assignment,
    bundle: Bundle,
    plan: Plan,
    sandbox: Sandbox,
) -> Receipt:
    """Return the receipt of a run that begins now; see `complete_receipt` for its end."""
    runtime = sandbox.runtime()
    return Receipt(
        assignment=bundle.digest,
        assignment_name=assignment.name,
        tests=_digest(bundle.tests),
        submission=identity,
        repository=submission.git.url if submission.git else None,
        engine=__version__,
        sandbox=sandbox.name,
        runtime=runtime.version,
        kernel=runtime.kernel,
        host=runtime.host,
        executor=job_facts.executor,
        flavour=assignment.flavour,
        limits=_limits(plan),
        attempts=job_facts.attempts,
        interruptions=job_facts.interruptions,
        started=_now(),
        forgeable=assignment.forgeable,
    )


def complete_receipt(
    receipt: Receipt, images: Mapping[str, str], identity: str, slow: PhaseResult | None
) -> Receipt:
    """Return the receipt of a run that has ended now.

    `identity` is the submission's digest or commit; `slow` is the test phase of the first run
    if there was a second one.
    """
    rerun = None
    if slow is not None:
        rerun = Rerun(wall_time_s=round(slow.wall_time_s, 3), cpu_time_s=round(slow.cpu_time_s, 3))
    known = {"images": dict(images), "submission": identity, "ended": _now(), "rerun": rerun}
    return receipt.model_copy(update=known)


def check_replay(replay: Replay, receipt: Receipt) -> None:
    """Raise `ReplayRefusedError` unless assignment, tests, sandbox and limits are the same."""
    for name, then, now in (
        ("assignment", replay.assignment, receipt.assignment),
        ("tests", replay.tests, receipt.tests),
        ("sandbox", replay.sandbox, receipt.sandbox),
    ):
        if then != now:
            raise ReplayRefusedError(_changed(name, then, now))
    for phase, then_limits in replay.limits.items():
        now_limits = receipt.limits.get(phase, {})
        for key, value in then_limits.items():
            if now_limits.get(key) != value:
                raise ReplayRefusedError(
                    _changed(f"limit {key} of phase {phase}", value, now_limits.get(key))
                    + " Flavours are the operator's (setting flavours)."
                )


def check_replay_images(replay: Replay, images: Mapping[str, str]) -> None:
    """Raise `ReplayRefusedError` unless every phase runs in the same image as before."""
    for phase, now in images.items():
        if replay.images.get(phase) != now:
            raise ReplayRefusedError(
                _changed(f"image of phase {phase}", replay.images.get(phase, "none"), now)
                + " Give the image's name back to that content, and replay again."
            )


def _changed(what: str, then: object, now: object) -> str:
    return f"Cannot replay {what}: it was {then}, and is {'not there' if now is None else now}."


def _limits(plan: Plan) -> dict[str, dict[str, int | float]]:
    return {phase.name: dataclasses.asdict(phase.limits) for phase in plan.specs}


def _digest(tests: IO[bytes]) -> str:
    tests.seek(0)
    hashed = hashlib.sha256()
    while chunk := tests.read(1 << 20):
        hashed.update(chunk)
    tests.seek(0)
    return f"sha256:{hashed.hexdigest()}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
