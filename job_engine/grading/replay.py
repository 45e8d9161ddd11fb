"""Replaying a graded job, and comparing the results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

from pydantic import ValidationError

from job_engine.errors import ReplayRefusedError
from job_engine.grading.results.model import Results
from job_engine.grading.submission import GradePayload, Replay

_COMPARED = ("verdict", "outcome", "score", "max_score")
_OF_TESTS = ("score", "max_score", "status", "visibility")


def results_to_replay(job: Mapping[str, Any]) -> Results:
    """Return the results of a `grade` job. Raises `ReplayRefusedError` if it has none."""
    if job.get("action") != "grade":
        raise ReplayRefusedError(f"{job['id']} is no grade job.")
    try:
        results = Results.model_validate_json(job.get("output", ""))
    except ValidationError:
        raise ReplayRefusedError(
            f"{job['id']} has no results that could come out the same: {job['state']}, "
            f"{job.get('status-message', 'no message')}"
        ) from None
    if results.withheld:
        raise ReplayRefusedError(
            f"Some results of {job['id']} are not shown to you, so what comes out cannot be "
            "compared: ask who manages the job."
        )
    if not results.receipt.images:
        raise ReplayRefusedError(
            f"{job['id']} was graded by job-engine {results.receipt.engine}, whose receipt does "
            "not say enough to replay it."
        )
    return results


def replay_payload(job: Mapping[str, Any], results: Results) -> dict[str, Any]:
    """Return the payload of a job that grades the same submission by the same assignment.

    The executor refuses to run it unless everything else in the receipt is the same, too.
    """
    receipt = results.receipt
    payload = GradePayload.model_validate_json(job.get("payload", "{}"))
    made: dict[str, Any] = json.loads(payload.model_dump_json(exclude_none=True))
    made["assignment"] = receipt.assignment
    if payload.submission.git is not None:
        # Pin the commit, because a branch may have moved.
        made["submission"]["git"].pop("ref", None)
        made["submission"]["git"]["commit"] = receipt.submission
    if "created" in job:
        # The grader gets the same time of submission.
        made["metadata"] = {"created_at": job["created"], **payload.metadata}
    made["replay"] = Replay(
        job=job["id"],
        assignment=receipt.assignment,
        tests=receipt.tests,
        sandbox=receipt.sandbox,
        images=receipt.images,
        limits=receipt.limits,
    ).model_dump(mode="json")
    return made


def differences(then: Results, now: Results) -> list[str]:
    """Return the differences, one a line; times and outputs are not compared."""
    found = list(_changes("", then, now, _COMPARED))
    for before, after in zip_longest(then.tests, now.tests):
        if before is None or after is None:
            test = before or after
            found.append(f"test {test.name!r}: {'only now' if before is None else 'only then'}")
        elif before.name != after.name:
            found.append(f"test {before.number}: {before.name!r} then, {after.name!r} now")
        else:
            found += _changes(f"test {before.name!r}: ", before, after, _OF_TESTS)
    phases = {phase.name: phase for phase in now.phases}
    for phase in then.phases:
        again = phases.get(phase.name)
        if again is None:
            found.append(f"phase {phase.name}: only then")
        else:
            found += _changes(f"phase {phase.name}: ", phase, again, ("verdict", "exit_code"))
    return found


def _changes(where: str, then: object, now: object, names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        before, after = getattr(then, name), getattr(now, name)
        if before != after:
            yield f"{where}{name} {_shown(before)} then, {_shown(after)} now"


def _shown(value: object) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
