"""Streamed results: a line with a JSON object for each finished test.

The keys of a test are those of Gradescope's `results.json`. A line without `name`, usually the
first, is about all tests: `planned` is their number, `max_score` their total. Lines written
before a run was cut short count.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from job_engine.grading.results.base import HarnessError, Reading, TestOutput
from job_engine.grading.results.gradescope import MAX_TESTS, Defaults, test_of
from job_engine.grading.results.hostile import Fields, Notes, read_object
from job_engine.grading.results.model import Status, TestResult, TextFormat

DEFAULT_PATH: Final = "tests.jsonl"
MAX_OTHERS: Final = 1_000
"""Lines without a test that are parsed, each of which costs as much as a test. After these, only
lines that contain `"name"` are parsed, and as many of those without a test end the reading."""
_TOO_MANY: Final = f"The tests wrote more than {2 * MAX_OTHERS:,} lines without a test."


class TestStream:
    """Parses such lines one by one."""

    __test__ = False

    def __init__(self) -> None:
        self.tests: list[TestResult] = []
        self.planned: int | None = None
        self.max_score: float | None = None
        self.notes = Notes()
        self._others = 0
        self._defaults = Defaults(Fields({}, self.notes, ""))

    @property
    def overrun(self) -> bool:
        """Whether there were so many lines without a test that no more are read."""
        return self._others >= 2 * MAX_OTHERS

    def feed(self, line: str) -> TestResult | None:
        """Parse a line; return its test, or None if it has none."""
        text = line.strip(" \t\r\ufeff")
        if not text or len(self.tests) > MAX_TESTS:
            return None
        if self._others >= MAX_OTHERS and ('"name"' not in text or self.overrun):
            return None
        item = self._parse(line) if text.startswith("{") else None
        if item is None:
            self.notes.add("a line is no JSON object, ignored")
            return None
        if "name" not in item:
            self._others += 1
            self._take_header(item)
            return None
        test = test_of(item, len(self.tests) + 1, self._defaults, self.notes)
        self.tests.append(test)
        return test

    def _parse(self, line: str) -> dict[str, Any] | None:
        try:
            return read_object(line.encode("utf-8", "replace"), self.notes)
        except HarnessError:
            self._others += 1
            return None

    def _take_header(self, item: dict[str, Any]) -> None:
        fields = Fields(item, self.notes, "")
        planned = fields.number("planned")
        if planned is not None:
            self.planned = int(min(max(planned, 0), MAX_TESTS))
        if (max_score := fields.number("max_score")) is not None:
            self.max_score = max_score


def read_stream(output: TestOutput) -> Reading:
    """Read `tests.jsonl`, or what the assignment names instead."""
    stream = TestStream()
    for line in output.lines(DEFAULT_PATH):
        stream.feed(line)
    if stream.overrun:
        # Without the tests that were left out, failures could become full marks.
        raise HarnessError(_TOO_MANY)
    tests = stream.tests[:MAX_TESTS]
    if len(stream.tests) > MAX_TESTS:
        stream.notes.add(f"only the first {MAX_TESTS:,} tests kept")
    if not tests and stream.planned is None:
        raise HarnessError("The tests wrote no line that tells of a test.")
    tests += [
        TestResult(
            name=f"Test {number}",
            status=Status.FAILED,
            output="planned, but never ran",
            number=str(number),
        )
        for number in range(len(tests) + 1, (stream.planned or 0) + 1)
    ]
    max_score = stream.max_score
    if max_score is None and not output.cut_short:
        max_score = _sum(test.max_score for test in tests)
    return Reading(
        score=_sum(test.score for test in tests) or 0.0,
        max_score=max_score,
        output_format=TextFormat.TEXT,
        tests=tests,
        notes=stream.notes.all(),
        total_known=max_score is not None,
    )


def _sum(points: Iterable[float | None]) -> float | None:
    known = [number for number in points if number is not None]
    return sum(known) if known else None
