"""Assembling results from the ended phases: the score, the verdict, and the fault.

`assemble` is a pure function. A submission that does not build, or meets a limit, is a result.
Tests without readable results are a failure of the harness. A failed clone is an error for the
submitter (`clone_error`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from job_engine.errors import RepositoryAwayError, SandboxError, SubmissionError
from job_engine.grading.archive.names import MAX_DEPTH
from job_engine.grading.assignment import Assignment
from job_engine.grading.clone import MISSING_FILES, TOO_DEEP, is_away
from job_engine.grading.plan import PROGRAM, RESULTS, Plan
from job_engine.grading.results import (
    HarnessError,
    Outcome,
    PhaseSummary,
    Reading,
    Receipt,
    Results,
    Status,
    TestOutput,
    TestResult,
    Visibility,
    read_results,
)
from job_engine.grading.submission import GitSource
from job_engine.grading.verdicts import ENDED_BY, explain, summarise
from job_engine.model import FinalVerdict
from job_engine.sandbox.base import PhaseResult, Verdict

_CASE_ENDED = (FinalVerdict.RUNTIME_ERROR, FinalVerdict.TIME_LIMIT, FinalVerdict.OUTPUT_LIMIT)
_RAN_TO_ITS_END = (Verdict.OK, Verdict.EXIT)


def assemble(
    assignment: Assignment, plan: Plan, phases: Mapping[str, PhaseResult], receipt: Receipt
) -> Results:
    """Return the results of a submission whose phases have ended, except a failed clone.

    Raises `SandboxError` when the test phase is missing without a reason.
    """
    summaries = [
        summarise(result, plan.limits(name), _visibility(name, assignment))
        for name, result in phases.items()
    ]
    build, test = phases.get("build"), phases.get("test")
    if build is not None and not build.ok:
        why = explain(build, plan.limits("build"))
        return _results(
            Outcome.BUILD_FAILED,
            FinalVerdict.BUILD_FAILED,
            f"The submission does not build: {why}.",
            (assignment, summaries, receipt),
            score=0.0,
        )
    if test is None:
        raise SandboxError("The sandbox ended without running the tests.")
    if test.verdict not in _RAN_TO_ITS_END:
        return _cut_short(assignment, plan, test, summaries, receipt)
    try:
        reading = read_results(assignment.results.format, _test_output(assignment, test))
    except HarnessError as error:
        return _broken(error, assignment, test, summaries, receipt)
    results = _graded(reading, assignment, summaries, receipt, test)
    verdict = FinalVerdict.ACCEPTED
    if not results.lost_nothing:
        verdict = _why(assignment, phases.get(PROGRAM), results.tests)
    if not results.gradable:
        verdict = FinalVerdict.SUBMISSION_REFUSED
    return results.model_copy(update={"verdict": verdict, "fault": verdict.fault})


def _on_stdout(assignment: Assignment) -> bool:
    """Return whether test results, of which some may be hidden, are on standard output."""
    return "-" in (assignment.results.stream, assignment.results.path)


def hidden_phases(plan: Plan, assignment: Assignment) -> frozenset[str]:
    """Return the phases whose output students do not see."""
    names = [phase.name for phase in plan.specs]
    return frozenset(n for n in names if _visibility(n, assignment) is not Visibility.VISIBLE)


def clone_error(result: PhaseResult, plan: Plan, git: GitSource) -> SubmissionError:
    """Return the error of a clone that failed, saying what to do about it."""
    output = _last_lines(result.stderr)
    if result.verdict is not Verdict.EXIT:
        why = explain(result, plan.limits("clone"))
        return SubmissionError(
            f"Cloning {git.url} {why}. Make the repository smaller, or upload an archive."
        )
    if result.exit_code == MISSING_FILES:
        return SubmissionError(f"The repository lacks files that the assignment needs: {output}")
    if result.exit_code == TOO_DEEP:
        return SubmissionError(
            f"The repository has files that lie more than {MAX_DEPTH} directories deep. Flatten "
            "the tree."
        )
    what = f"the commit {git.commit}" if git.commit else f"'{git.wanted}'"
    if is_away(result.stderr):
        return RepositoryAwayError(f"Cannot fetch {what} of {git.url}. git said: {output}")
    return SubmissionError(
        f"Cannot fetch {what} of {git.url}. Check that the repository exists, may be read, and "
        f"has it. git said: {output}"
    )


def _test_output(assignment: Assignment, test: PhaseResult) -> TestOutput:
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
    seconds = reading.execution_time
    return Results(
        outcome=Outcome.GRADED,
        message=_message(reading, max_score),
        score=reading.score,
        max_score=max_score,
        output=reading.output,
        output_format=reading.output_format,
        visibility=reading.visibility,
        stdout_visibility=reading.stdout_visibility,
        execution_time=round(test.wall_time_s, 3) if seconds is None else seconds,
        tests=reading.tests,
        leaderboard=reading.leaderboard,
        scoreboard=reading.scoreboard,
        gradable=reading.gradable,
        format_errors=reading.format_errors,
        grader_message=reading.grader_message,
        images=reading.images,
        extra_data=reading.extra_data,
        notes=[*reading.notes, *(f"left out: {name!a}" for name in test.left_out[:20])],
        phases=_printed(summaries, assignment, reading, whole=True),
        receipt=receipt,
    )


def _message(reading: Reading, max_score: float | None) -> str:
    if not reading.gradable:
        why = "; ".join(reading.format_errors)[:500]
        return "The submission is not gradable" + (f": {why}" if why else ".")
    if reading.score is None:
        return "Feedback, and no score."
    of = "" if max_score is None else f" of {max_score:g}"
    return f"Score {reading.score:g}{of}."


def _why(
    assignment: Assignment, program: PhaseResult | None, tests: list[TestResult]
) -> FinalVerdict:
    """Return why points were lost: a limit that a split run's program met, or its answers.

    For plain cases it is the verdict of the first case that is not right, as in contests: their
    harness is the engine's own, and knows how each run ended.
    """
    if program is None:
        return FinalVerdict.WRONG_ANSWER
    if program.verdict in ENDED_BY:
        return ENDED_BY[program.verdict]
    wrong = next((test for test in tests if test.status is Status.FAILED), None)
    ended = wrong.extra_data.get("ended") if wrong and assignment.contract == "cases" else None
    return next((v for v in _CASE_ENDED if v == ended), FinalVerdict.WRONG_ANSWER)


def _cut_short(
    assignment: Assignment,
    plan: Plan,
    test: PhaseResult,
    summaries: list[PhaseSummary],
    receipt: Receipt,
) -> Results:
    """Return the results of tests ended by a limit or a signal: finished tests count."""
    message = f"The tests were ended: {explain(test, plan.limits('test'))}."
    if assignment.contract == "prairielearn":
        return _not_graded(assignment, plan, test, message, summaries, receipt)
    reading = _finished(assignment, test)
    score = sum(item.score or 0.0 for item in reading.tests)
    max_score = reading.max_score if reading.total_known else None
    if max_score is None:
        max_score = assignment.results.max_score
    if reading.tests:
        of = "" if max_score is None else f" of {max_score:g}"
        message += f" What had finished before counts: score {score:g}{of}."
    return _results(
        Outcome.LIMIT,
        ENDED_BY[test.verdict],
        message,
        (assignment, _printed(summaries, assignment, reading, whole=False), receipt),
        score=score,
        reading=replace(reading, max_score=max_score),
    )


def _not_graded(
    assignment: Assignment,
    plan: Plan,
    test: PhaseResult,
    message: str,
    summaries: list[PhaseSummary],
    receipt: Receipt,
) -> Results:
    """Return the results of a PrairieLearn grader that was ended: no tests count."""
    if test.verdict is Verdict.WALL_TIME:
        seconds = plan.limits("test").wall_time_s
        message = f"Grading did not complete within the time limit of {seconds:g} seconds."
    verdict = ENDED_BY[test.verdict]
    known = (assignment, summaries, receipt)
    results = _results(Outcome.LIMIT, verdict, message, known, score=None)
    return results.model_copy(update={"gradable": False})


def _finished(assignment: Assignment, test: PhaseResult) -> Reading:
    """Return the tests that a run reported before it was ended, perhaps none.

    Totals that it reported, such as a score, are ignored, because they are incomplete.
    """
    output = replace(_test_output(assignment, test), cut_short=True)
    try:
        if assignment.results.stream is not None:
            return read_results("stream", replace(output, path=assignment.results.stream))
        return read_results(assignment.results.format, output)
    except HarnessError:
        return Reading(total_known=False)


def _results(
    outcome: Outcome,
    verdict: FinalVerdict,
    message: str,
    known: tuple[Assignment, list[PhaseSummary], Receipt],
    *,
    score: float | None,
    reading: Reading | None = None,
) -> Results:
    """Return the results of an incomplete run, with the tests that it finished."""
    assignment, summaries, receipt = known
    reading = reading or Reading()
    max_score = reading.max_score
    return Results(
        outcome=outcome,
        verdict=verdict,
        fault=verdict.fault,
        message=message,
        score=score,
        max_score=assignment.results.max_score if max_score is None else max_score,
        tests=reading.tests,
        notes=reading.notes,
        visibility=reading.visibility,
        stdout_visibility=reading.stdout_visibility,
        phases=summaries,
        receipt=receipt,
    )


def _broken(
    error: HarnessError,
    assignment: Assignment,
    test: PhaseResult,
    summaries: list[PhaseSummary],
    receipt: Receipt,
) -> Results:
    hint = (
        " This harness runs the student's code in its own process, which may have ended it."
        if receipt.forgeable
        else ""
    )
    reading = _finished(assignment, test) if assignment.results.stream is not None else Reading()
    return _results(
        Outcome.HARNESS_FAILED,
        FinalVerdict.HARNESS_FAILED,
        f"The assignment's harness failed, not the submission: {error.message}{hint}",
        (assignment, _printed(summaries, assignment, reading, whole=False), receipt),
        score=None,
        reading=reading,
    )


def _visibility(phase: str, assignment: Assignment) -> Visibility:
    # The output of a split run's program is hidden: it reveals the input of hidden tests.
    if phase in ("clone", "build") or (phase == "test" and assignment.results.output_visible):
        return Visibility.VISIBLE
    return Visibility.HIDDEN


def _printed(
    summaries: list[PhaseSummary], assignment: Assignment, reading: Reading, *, whole: bool
) -> list[PhaseSummary]:
    """Set the visibility of the tests' output: as the results say, unless the assignment does.

    It is hidden if it may contain a hidden test, or part of one.
    """
    visibility = reading.stdout_visibility
    hidden = any(test.visibility is not Visibility.VISIBLE for test in reading.tests)
    if _on_stdout(assignment) and (hidden or not whole):
        return [
            phase.model_copy(update={"visibility": Visibility.HIDDEN})
            if phase.name == "test"
            else phase
            for phase in summaries
        ]
    if visibility is Visibility.HIDDEN:
        return summaries
    return [
        phase.model_copy(update={"visibility": visibility})
        if phase.name == "test" and phase.visibility is Visibility.HIDDEN
        else phase
        for phase in summaries
    ]


def _last_lines(stderr: bytes) -> str:
    """Return git's last lines of output, safe for a status message."""
    text = stderr[-2000:].decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()][-3:]
    joined = "; ".join(lines)
    return "".join(c if c.isprintable() else "\ufffd" for c in joined)[:400] or "nothing"
