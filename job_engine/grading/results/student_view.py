"""The student's view of a verdict; no other module decides what students see of it.

Staff, who manage or may edit the job, see everything. Callers who may only read the job get
the result of `for_students`. It is computed on reading, because the due date decides what is
hidden. Output that should be a verdict but cannot be parsed is not shown at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import ValidationError

from job_engine.grading.results.fit import to_json
from job_engine.grading.results.model import Outcome, PhaseSummary, Results, TestResult, Visibility
from job_engine.model import Failure, Fault, FinalVerdict
from job_engine.model.verdict import RECEIPT_KEY, VERDICT_ACTION
from job_engine.sandbox.base import Verdict

_NOT_ALL: Final = {
    Outcome.GRADED: "Graded. Some tests are not shown, so the score is not shown either.",
    Outcome.LIMIT: "The tests were ended by a limit. Some are not shown, nor is the score.",
    Outcome.BUILD_FAILED: "The submission does not build.",
    Outcome.HARNESS_FAILED: "The assignment's harness failed, not the submission.",
}
_OF_THE_ASSIGNMENT: Final = "The assignment cannot grade this; the job shows its staff why."
_OF_THE_ENGINE: Final = "A fault of the engine; the job shows its staff which."
_UNREADABLE: Final = "The results cannot be shown here."
_BY_THEMSELVES: Final = (Verdict.OK, Verdict.EXIT)
_BEFORE: Final = ("clone", "build")
"""Phases that end before anything is tested."""


@dataclass(frozen=True)
class StudentView:
    """What a student gets of a job's outcome."""

    output: str | None
    """None: nothing."""
    message: str | None = None
    """The status message to show instead; None: the stored one."""


def view_for_students(action: str, output: str, now: datetime) -> StudentView | None:
    """Return the student's view of a job's output; None: not a verdict, shown unchanged."""
    is_object = output.lstrip().startswith("{")
    if not (is_object and (action == VERDICT_ACTION or RECEIPT_KEY in output)):
        return None
    try:
        failure = Failure.model_validate_json(output)
    except ValidationError:
        return _of_results(output, now)
    if failure.fault is Fault.ASSIGNMENT:
        why = _OF_THE_ASSIGNMENT
    elif failure.verdict is FinalVerdict.ENGINE_FAILED:
        why = _OF_THE_ENGINE
    else:
        return StudentView(output)
    return StudentView(Failure.of(failure.verdict, why).model_dump_json(), why)


def _of_results(output: str, now: datetime) -> StudentView:
    try:
        results = Results.model_validate_json(output)
    except ValidationError:
        return StudentView(None, _UNREADABLE)
    seen = for_students(results, now)
    message = None if seen.message == results.message else seen.headline
    return StudentView(to_json(seen), message)


def for_students(results: Results, now: datetime) -> Results:
    """Return what students see of results at the time `now` (with an offset).

    Hidden tests are left out, and so is the total, because it would reveal their points.
    `withheld` is true then.
    """

    def is_open(visibility: Visibility) -> bool:
        if visibility is Visibility.AFTER_DUE_DATE:
            return results.due is not None and now >= results.due
        # The engine does not publish grades, so `after_published` stays hidden.
        return visibility is Visibility.VISIBLE

    whole = is_open(results.visibility)
    tests = [_test(test) for test in results.tests if is_open(test.visibility)]
    total = whole and len(tests) == len(results.tests)
    seen = results.model_copy(
        update={
            "tests": tests,
            "extra_data": {},
            "notes": [],
            "phases": [_phase(p, is_open(p.visibility), total=total) for p in results.phases],
            "withheld": not total,
        }
    )
    if not whole:
        nothing = {"output": "", "grader_message": "", "images": [], "leaderboard": []}
        seen = seen.model_copy(update={**nothing, "scoreboard": []})
    if not total:
        seen = seen.model_copy(update={"score": None, "max_score": None})
        # A limit is reported to the student; whether answers are right would reveal hidden tests.
        if results.outcome is Outcome.GRADED:
            seen = seen.model_copy(update={"verdict": None, "fault": None})
    if not total or results.outcome is Outcome.HARNESS_FAILED:
        seen = seen.model_copy(update={"message": _NOT_ALL[results.outcome]})
    return seen


def _test(test: TestResult) -> TestResult:
    return test.model_copy(update={"extra_data": {}})


def _phase(phase: PhaseSummary, shown: bool, *, total: bool) -> PhaseSummary:
    """Return a phase without its output, unless that is `shown`.

    The exit code of a harness depends on all its tests, so it is hidden like their total.
    """
    if not shown:
        phase = phase.model_copy(update={"output": ""})
    if not total and phase.name not in _BEFORE and phase.verdict in _BY_THEMSELVES:
        ended = {"verdict": Verdict.OK, "exit_code": None, "message": "ended"}
        phase = phase.model_copy(update=ended)
    return phase
