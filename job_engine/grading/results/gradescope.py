"""Gradescope's `results.json` (its autograder specification, "Output format").

Unknown keys are ignored, as there. `score` overrides the sum of the tests' scores.
"""

from __future__ import annotations

from typing import Any, Final

from job_engine.grading.results.base import HarnessError, Reading, TestOutput
from job_engine.grading.results.hostile import Fields, Notes, clean_text, read_object
from job_engine.grading.results.model import (
    LeaderboardEntry,
    Status,
    TestResult,
    TextFormat,
    Visibility,
)

MAX_TESTS: Final = 5_000
_NAME: Final = 512
_EXTRA: Final = 100_000


def read_gradescope(output: TestOutput) -> Reading:
    """Read `results.json`, or what the assignment names instead."""
    notes = Notes()
    value = read_object(output.document("results.json"), notes, lenient=True)
    top = Fields(value, notes, "")
    defaults = Defaults(top)
    tests = [
        test_of(item, index, defaults, notes)
        for index, item in enumerate(top.items("tests", MAX_TESTS), start=1)
    ]
    score, max_score = _totals(top, tests)
    return Reading(
        score=score,
        max_score=max_score,
        output=top.text("output"),
        output_format=top.choice("output_format", TextFormat, TextFormat.SIMPLE_FORMAT),
        visibility=defaults.visibility,
        stdout_visibility=_visibility(top, "stdout_visibility", Visibility.HIDDEN),
        execution_time=top.number("execution_time"),
        tests=tests,
        leaderboard=_leaderboard(top, notes),
        extra_data=top.data("extra_data", _EXTRA),
        notes=notes.all(),
    )


class Defaults:
    """Defaults for all tests, from the top level."""

    def __init__(self, top: Fields) -> None:
        self.visibility = _visibility(top, "visibility", Visibility.VISIBLE)
        self.output_format = top.choice("test_output_format", TextFormat, TextFormat.TEXT)
        self.name_format = top.choice("test_name_format", TextFormat, TextFormat.TEXT)


def _visibility(fields: Fields, key: str, default: Visibility) -> Visibility:
    """Return the visibility; an invalid value means hidden."""
    return fields.choice(key, Visibility, default, wrong=Visibility.HIDDEN)


def _totals(top: Fields, tests: list[TestResult]) -> tuple[float | None, float | None]:
    score = top.number("score")
    if score is None:
        # A test without a score is informational, such as Otter's summary of public tests.
        if all(test.score is None for test in tests):
            raise HarnessError("The results have neither a score nor one for any test.")
        score = sum(test.score for test in tests if test.score is not None)
    max_score = top.number("max_score")
    scored = [test for test in tests if test.score is not None or test.max_score is not None]
    if max_score is None and scored and all(test.max_score is not None for test in scored):
        max_score = sum(test.max_score for test in tests if test.max_score is not None)
    return score, max_score


def test_of(item: Any, index: int, defaults: Defaults, notes: Notes) -> TestResult:
    """Read one test; `index` is its position, from 1."""
    where = f"tests[{index - 1}]."
    if not isinstance(item, dict):
        notes.add(f"{where[:-1]}: not an object, ignored")
        item = {}
    test = Fields(item, notes, where)
    score, max_score = test.number("score"), test.number("max_score")
    number = test.text("number", 32)
    return TestResult(
        name=test.text("name", _NAME) or f"Test {index}",
        score=score,
        max_score=max_score,
        status=_status(test, score, max_score),
        output=test.text("output"),
        output_format=test.choice("output_format", TextFormat, defaults.output_format),
        name_format=test.choice("name_format", TextFormat, defaults.name_format),
        visibility=_visibility(test, "visibility", defaults.visibility),
        number=number or str(index),
        tags=test.texts("tags", 32, 100),
        extra_data=test.data("extra_data", _EXTRA),
    )


def _status(test: Fields, score: float | None, max_score: float | None) -> Status | None:
    if "status" in test:
        return test.choice("status", Status, Status.FAILED)
    if score is None or max_score is None:
        return None
    return Status.PASSED if score >= max_score else Status.FAILED


def _leaderboard(top: Fields, notes: Notes) -> list[LeaderboardEntry]:
    entries = []
    for index, item in enumerate(top.items("leaderboard", 100)):
        fields = Fields(item if isinstance(item, dict) else {}, notes, f"leaderboard[{index}].")
        name = fields.text("name", _NAME)
        raw = item.get("value") if isinstance(item, dict) else None
        value = clean_text(raw, _NAME) if isinstance(raw, str) else fields.number("value")
        if not name or value is None:
            notes.add(f"leaderboard[{index}]: without name or value, ignored")
            continue
        order = fields.text("order", 8)
        if order not in ("", "asc", "desc"):
            notes.add(f"leaderboard[{index}].order: not asc or desc, taken as desc")
        ascending = order == "asc"
        entries.append(
            LeaderboardEntry(name=name, value=value, order="asc" if ascending else "desc")
        )
    return entries
