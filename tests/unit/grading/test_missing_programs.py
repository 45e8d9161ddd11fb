"""Programs that an image lacks are the assignment's fault, if they are its own or well known."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest

from job_engine.grading.assemble import assemble
from job_engine.grading.flavours import BUILT_IN
from job_engine.grading.missing_programs import blame_image
from job_engine.grading.plan import make_plan
from job_engine.grading.policy import load_assignment
from job_engine.grading.results import Outcome, Results
from job_engine.grading.results.model import TestResult
from job_engine.model import Fault, FinalVerdict
from job_engine.sandbox.base import PhaseResult, PhaseSpec, Verdict
from job_engine.settings import GradingSettings, SandboxSettings
from tests.support.receipts import make_receipt

OWN = "{name: a, image: course, phases: {build: BUILD, test: TEST}, results: {format: FORMAT}}"

FILES = b"""#!/usr/bin/env python
x.o: x.cob # push it on the stack
\tcobc -c x.cob
subprocess.run(["ghc", "x.hs"])
"""
"""Files of an assignment."""


def ended(phase: str, code: int, printed: str = "") -> PhaseResult:
    return PhaseResult(
        phase=phase,
        verdict=Verdict.EXIT if code else Verdict.OK,
        exit_code=code,
        signal=None,
        wall_time_s=1,
        cpu_time_s=1,
        peak_memory_bytes=0,
        stdout=b"",
        stderr=printed.encode(),
    )


def graded(
    *phases: PhaseResult,
    build: str = "make",
    test: str = "pytest tests",
    format_: str = "stdout",
    there: tuple[str, ...] = (),
    files: bytes = b"",
) -> Results:
    """Return results of phases, in an image that has nothing but what is `there`."""
    reports = any(phase.phase == "report" for phase in phases)
    own = OWN.replace("TEST}", "TEST, report: curl}") if reports else OWN
    text = own.replace("BUILD", build).replace("TEST", test).replace("FORMAT", format_)
    assignment = load_assignment(text.encode(), BUILT_IN, SandboxSettings())
    plan = make_plan(assignment, None, BUILT_IN, GradingSettings())
    by_name = {phase.phase: phase for phase in phases}
    receipt = make_receipt(assignment_name="a", submission="b")
    results = assemble(assignment, plan, by_name, receipt)

    def search(_spec: PhaseSpec, names: Sequence[str]) -> Sequence[str]:
        return [name for name in names if name not in there]

    return blame_image(results, assignment, plan, by_name, search, io.BytesIO(files))


@pytest.mark.parametrize(
    ("build", "code", "printed", "missing"),
    [
        ("gcc -o x x.c", 127, "sh: 1: gcc: not found", "gcc"),
        ("['kc', x]", 127, "kc: command not found", "kc"),
        ("['kc', x]", 127, "bwrap: execvp kc: No such file or directory", "kc"),
        ("kc x", 127, "bash: line 1: kc: command not found", "kc"),
        ("make", 2, "make: gcc: No such file or directory\nmake: *** [x] Error 127", "gcc"),
        ("make", 2, "/bin/sh: 1: cobc: not found", "cobc"),
        ("./run.py", 127, "/usr/bin/env: ‘python’: No such file or directory", "python"),  # noqa: RUF001
        ("make", 1, "FileNotFoundError: [Errno 2] No such file or directory: 'ghc'", "ghc"),
    ],
)
def test_a_build_without_its_compiler_is_the_assignments_fault(
    build: str, code: int, printed: str, missing: str
) -> None:
    results = graded(ended("build", code, printed), build=build, files=FILES)
    assert (results.outcome, results.score) == (Outcome.HARNESS_FAILED, None)
    assert results.fault is Fault.ASSIGNMENT
    assert f"the image course has no {missing}, which the phase build" in results.message


@pytest.mark.parametrize(
    ("build", "printed"),
    [
        ("make", "make: frobnicate: No such file or directory"),
        ("make", "x.c:1:2: error: #error x: swipl: not found"),
        ("make", "sh: 1: stack: not found"),
        ("make -s check", "sh: 1: check: not found"),
        ("make", "sh: 1: ./helper: not found"),
        ("gcc -o x main.c", "gcc: error: main.c: No such file or directory"),
        ("gcc -o x x.c", "x.c:1:10: fatal error: gcc/x.h: No such file or directory"),
        ("make", "x.c:2: error: 'gcc' undeclared"),
    ],
)
def test_a_program_missing_in_the_submission_is_its_own_fault(build: str, printed: str) -> None:
    results = graded(ended("build", 1, printed), build=build, files=FILES)
    assert (results.verdict, results.score) == (FinalVerdict.BUILD_FAILED, 0)


def test_names_printed_by_a_submission_are_not_trusted() -> None:
    results = graded(ended("build", 127, "sh: 1: gcc: not found"), there=("gcc",))
    assert results.verdict is FinalVerdict.BUILD_FAILED


def test_tests_that_cannot_start_are_the_assignments_fault() -> None:
    printed = "sh: 1: pytest: not found"
    results = graded(ended("build", 0), ended("test", 127, printed))
    assert (results.outcome, results.score) == (Outcome.HARNESS_FAILED, None)
    assert "the phase test needs" in results.message
    unread = graded(ended("build", 0), ended("test", 127, printed), format_="gradescope")
    assert "has no pytest" in unread.message


def test_tests_that_judged_keep_their_score_with_a_note() -> None:
    tap = ended("test", 0, "sh: 1: valgrind: not found")
    results = graded(
        ended("build", 0),
        PhaseResult(**{**vars(tap), "stdout": b"1..2\nok 1 - a\nnot ok 2 - b\n"}),
        format_="tap",
        files=b"#!/bin/sh\nvalgrind ./program\n",
    )
    assert (results.outcome, results.score) == (Outcome.GRADED, 1)
    assert "has no valgrind" in results.notes[-1]


@pytest.mark.parametrize(
    ("files", "outcome"),
    [
        (b"x" * (1 << 20) + b"\njavac Main.java", Outcome.HARNESS_FAILED),
        (b"y" * ((1 << 20) - 3) + b"\njavac Main.java", Outcome.HARNESS_FAILED),
        (b"my_javac javacs\nNo javac here.", Outcome.GRADED),
        (b"", Outcome.GRADED),
    ],
)
def test_tests_that_gave_no_point_lacked_only_what_the_assignment_names(
    files: bytes, outcome: Outcome
) -> None:
    tap = ended("test", 0, "bash: line 1: javac: command not found")
    results = graded(
        ended("build", 0),
        PhaseResult(**{**vars(tap), "stdout": b"1..1\nnot ok 1 - a\n"}),
        format_="tap",
        files=files,
    )
    assert results.outcome is outcome
    assert (results.fault is Fault.ASSIGNMENT) == (outcome is Outcome.HARNESS_FAILED)


def test_a_report_without_its_programs_takes_no_score() -> None:
    results = graded(
        ended("build", 0), ended("test", 1), ended("report", 127, "sh: 1: curl: not found")
    )
    assert (results.outcome, results.score) == (Outcome.GRADED, 0)


def test_a_program_that_tests_ran_is_not_missing_because_of_the_output() -> None:
    tap = ended("test", 0, "sh: 1: pytest: not found")
    results = graded(
        ended("build", 0),
        PhaseResult(**{**vars(tap), "stdout": b"1..1\nnot ok 1 - a\n"}),
        test="pytest-runner; pytest --check bundle",
        format_="tap",
        there=("pytest",),
    )
    assert results.outcome is Outcome.GRADED


SPLIT = """{name: a, contract: cases, cases: {program: python3 main.py}}"""


@pytest.mark.parametrize(
    ("outputs", "there", "outcome"),
    [
        (["ended with exit code 127"] * 2, (), Outcome.HARNESS_FAILED),
        (["ended with exit code 127", ""], (), Outcome.GRADED),
        (["ended with exit code 127"] * 2, ("python3",), Outcome.GRADED),
    ],
)
def test_a_split_run_lacks_its_program_only_if_no_run_of_it_began(
    outputs: list[str], there: tuple[str, ...], outcome: Outcome
) -> None:
    assignment = load_assignment(SPLIT.encode(), BUILT_IN, SandboxSettings())
    plan = make_plan(assignment, None, BUILT_IN, GradingSettings())
    tests = [
        TestResult(name=str(n), score=0, max_score=1, status="failed", output=output)
        for n, output in enumerate(outputs)
    ]
    results = Results(
        outcome=Outcome.GRADED,
        verdict=FinalVerdict.WRONG_ANSWER,
        message="0 of 2",
        score=0,
        max_score=2,
        tests=tests,
        receipt=make_receipt(assignment_name="a", submission="b"),
    )
    phases = {name: ended(name, 0) for name in ("test", "program")}

    def search(_spec: PhaseSpec, names: Sequence[str]) -> Sequence[str]:
        return [name for name in names if name not in there]

    assert blame_image(results, assignment, plan, phases, search, None).outcome is outcome
