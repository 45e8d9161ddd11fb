"""Converting test cases of formats without points to a reading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from job_engine.grading.results.base import Reading
from job_engine.grading.results.hostile import Notes, clean_text
from job_engine.grading.results.model import Status, TestResult, TextFormat

MAX_CASES: Final = 5_000
"""Most cases that are kept; readers stop after one more, which shows that there are others."""


@dataclass(kw_only=True)
class Case:
    """One test case."""

    name: str
    passed: bool
    skipped: bool = False
    lines: list[str] = field(default_factory=list)


def reading_of(
    cases: list[Case], weights: Mapping[str, float], *, output: str = "", seconds: float = 0.0
) -> Reading:
    """Return a reading in which each case has its weight, by default 1; skipped ones have 0."""
    notes = Notes()
    if len(cases) > MAX_CASES:
        notes.add(f"only the first {MAX_CASES:,} tests kept")
    tests = [
        test_of_case(case, index, weights.get(case.name, 1.0))
        for index, case in enumerate(cases[:MAX_CASES], start=1)
    ]
    return Reading(
        score=sum(test.score or 0.0 for test in tests),
        max_score=sum(test.max_score or 0.0 for test in tests),
        output=clean_text(output),
        output_format=TextFormat.TEXT,
        execution_time=seconds or None,
        tests=tests,
        notes=notes.all(),
    )


def test_of_case(case: Case, index: int, weight: float) -> TestResult:
    """Return a case as a test of the results; `index` is its position, from 1."""
    status = Status.PASSED if case.passed else Status.FAILED
    return TestResult(
        name=clean_text(case.name, 512),
        score=None if case.skipped else weight * case.passed,
        max_score=None if case.skipped else weight,
        status=None if case.skipped else status,
        output=clean_text("\n".join(case.lines)),
        number=str(index),
        tags=["skipped"] if case.skipped else [],
    )
