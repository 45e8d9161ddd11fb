"""From phases that ended to results: whose fault was it, and what is the score?

One pure function. A submission that does not build or meets a limit is a result; tests
that tell nothing readable are the harness's failure; a clone that failed is an error for
whoever submitted.
"""

from __future__ import annotations

from collections.abc import Mapping

from job_engine.errors import SandboxError, SubmissionError
from job_engine.grading.assignment import Assignment
from job_engine.grading.clone import MISSING_FILES
from job_engine.grading.plan import RESULTS, Plan
from job_engine.grading.results import (
    HarnessError,
    Outcome,
    PhaseSummary,
    Reading,
    Receipt,
    Results,
    TestOutput,
    Visibility,
    read_results,
)
from job_engine.grading.submission import GitSource
from job_engine.grading.verdicts import explain, summarise
from job_engine.sandbox.base import PhaseResult, Verdict

_RAN_TO_ITS_END = (Verdict.OK, Verdict.EXIT)


def assemble(
    assignment: Assignment, plan: Plan, phases: Mapping[str, PhaseResult], receipt: Receipt
) -> Results:
    """Return the results of a submission whose phases have ended (not clone's failure).

    Raises `SandboxError` when the test phase is missing without a reason.
    """
    summaries = [
        summarise(result, plan.limits(name), _visibility(name, assignment))
        for name, result in phases.items()
    ]
    build, test = phases.get("build"), phases.get("test")
    if build is not None and not build.ok:
        why = explain(build, plan.limits("build"))
        message = f"The submission does not build: {why}."
        return _zero(Outcome.BUILD_FAILED, message, assignment, summaries, receipt)
    if test is None:
        raise SandboxError("The sandbox ended without running the tests.")
    if test.verdict not in _RAN_TO_ITS_END:
        message = f"The tests were ended: {explain(test, plan.limits('test'))}."
        return _zero(Outcome.LIMIT, message, assignment, summaries, receipt)
    try:
        reading = read_results(assignment.results.format, _found(assignment, test))
    except HarnessError as error:
        return _broken(error, assignment, summaries, receipt)
    return _graded(reading, assignment, summaries, receipt, test)


def clone_error(result: PhaseResult, plan: Plan, git: GitSource) -> SubmissionError:
    """Return the error of a clone that failed, saying what to do about it."""
    told = _last_lines(result.stderr)
    if result.verdict is not Verdict.EXIT:
        why = explain(result, plan.limits("clone"))
        return SubmissionError(
            f"Cloning {git.url} {why}. Make the repository smaller, or upload an archive."
        )
    if result.exit_code == MISSING_FILES:
        return SubmissionError(f"The repository lacks files that the assignment needs: {told}")
    what = f"the commit {git.commit}" if git.commit else f"'{git.wanted}'"
    return SubmissionError(
        f"Cannot fetch {what} of {git.url}. Check that the repository exists, may be read, and "
        f"has it. git said: {told}"
    )


def _found(assignment: Assignment, test: PhaseResult) -> TestOutput:
    prefix = f"{RESULTS}/"
    return TestOutput(
        files={name.removeprefix(prefix): data for name, data in test.files.items()},
        left_out=tuple(name.removeprefix(prefix) for name in test.left_out),
        stdout=test.stdout,
        stderr=test.stderr,
        exit_code=test.exit_code,
        path=assignment.results.path,
        full_score=assignment.results.max_score,
        weights=assignment.results.weights,
    )


def _graded(
    reading: Reading,
    assignment: Assignment,
    summaries: list[PhaseSummary],
    receipt: Receipt,
    test: PhaseResult,
) -> Results:
    max_score = reading.max_score
    if max_score is None:
        max_score = assignment.results.max_score
    of = "" if max_score is None else f" of {max_score:g}"
    seconds = reading.execution_time
    return Results(
        outcome=Outcome.GRADED,
        message=f"Score {reading.score or 0:g}{of}.",
        score=reading.score,
        max_score=max_score,
        output=reading.output,
        output_format=reading.output_format,
        visibility=reading.visibility,
        stdout_visibility=reading.stdout_visibility,
        execution_time=round(test.wall_time_s, 3) if seconds is None else seconds,
        tests=reading.tests,
        leaderboard=reading.leaderboard,
        extra_data=reading.extra_data,
        notes=[*reading.notes, *(f"left out: {name!a}" for name in test.left_out[:20])],
        phases=_with_stdout(summaries, reading.stdout_visibility),
        receipt=receipt,
    )


def _zero(
    outcome: Outcome,
    message: str,
    assignment: Assignment,
    summaries: list[PhaseSummary],
    receipt: Receipt,
) -> Results:
    return Results(
        outcome=outcome,
        message=message,
        score=0.0,
        max_score=assignment.results.max_score,
        phases=summaries,
        receipt=receipt,
    )


def _broken(
    error: HarnessError,
    assignment: Assignment,
    summaries: list[PhaseSummary],
    receipt: Receipt,
) -> Results:
    hint = (
        " This harness runs the student's code in its own process, which may have ended it."
        if receipt.forgeable
        else ""
    )
    return Results(
        outcome=Outcome.HARNESS_FAILED,
        message=f"The assignment's harness failed, not the submission: {error.message}{hint}",
        score=None,
        max_score=assignment.results.max_score,
        phases=summaries,
        receipt=receipt,
    )


def _visibility(phase: str, assignment: Assignment) -> Visibility:
    if phase in ("clone", "build") or (phase == "test" and assignment.results.output_visible):
        return Visibility.VISIBLE
    return Visibility.HIDDEN


def _with_stdout(summaries: list[PhaseSummary], told: Visibility) -> list[PhaseSummary]:
    """Let the results say who sees what the tests printed, where the assignment does not."""
    if told is Visibility.HIDDEN:
        return summaries
    return [
        phase.model_copy(update={"visibility": told})
        if phase.name == "test" and phase.visibility is Visibility.HIDDEN
        else phase
        for phase in summaries
    ]


def _last_lines(stderr: bytes) -> str:
    """Return the end of git's own words, safe in a status message."""
    text = stderr[-2000:].decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()][-3:]
    joined = "; ".join(lines)
    return "".join(c if c.isprintable() else "\ufffd" for c in joined)[:400] or "nothing"
