"""TAP, the Test Anything Protocol, versions 12 to 14, without subtests' points.

Source of the grammar: https://testanything.org/tap-version-14-specification.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from job_engine.grading.results.base import HarnessError, Reading, TestOutput
from job_engine.grading.results.cases import MAX_CASES, Case, reading_of, test_of_case
from job_engine.grading.results.model import TestResult

_TEST: Final = re.compile(r"(not )?ok\b ?([0-9]{1,9})?(?: -)? ?(.*)", re.DOTALL)
_PLAN: Final = re.compile(r"1\.\.([0-9]{1,9})(?:\s*#.*)?\s*")
_DIRECTIVE: Final = re.compile(r"\s#\s*(skip|todo)\b.*", re.IGNORECASE | re.DOTALL)
_MAX_PLAN: Final = 5_000


def read_tap(output: TestOutput) -> Reading:
    """Read TAP from standard output, or the file that the assignment names."""
    lines = output.lines("-")
    cases: list[Case] = []
    planned: int | None = None
    bailed: str | None = None
    for line in lines:
        if plan := _PLAN.fullmatch(line):
            planned = min(int(plan[1]), _MAX_PLAN)
        elif line.startswith("Bail out!"):
            bailed = line
            break
        elif len(cases) > MAX_CASES:
            # Not parsed, because a case takes a hundred times the memory of its line.
            continue
        elif test := _TEST.fullmatch(line):
            cases.append(_case(test, len(cases) + 1))
        elif cases and line.startswith(("#", "  ")):
            cases[-1].lines.append(line)
    if planned is None and not cases:
        raise HarnessError("The tests printed no TAP: neither a plan nor a test line.")
    for number in range(len(cases) + 1, (planned or 0) + 1):
        cases.append(Case(name=f"Test {number}", passed=False, lines=["planned, but never ran"]))
    reading = reading_of(cases, output.weights, output=bailed or "")
    return replace(reading, total_known=planned is not None or not output.cut_short)


class TapStream:
    """Parses TAP line by line; lines that belong to a test but follow it are ignored."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        self._count = 0

    def feed(self, line: str) -> TestResult | None:
        """Return the test of a line, or None if it has none."""
        test = _TEST.fullmatch(line)
        if test is None or self._count >= MAX_CASES:
            return None
        self._count += 1
        case = _case(test, self._count)
        return test_of_case(case, self._count, self._weights.get(case.name, 1.0))


def _case(test: re.Match[str], position: int) -> Case:
    text = test[3] or ""
    directive = _DIRECTIVE.search(f" {text}")
    kind = directive[1].lower() if directive else ""
    name = _DIRECTIVE.sub("", f" {text}").strip() or f"Test {test[2] or position}"
    # A failing TODO is expected to fail: TAP counts it as passed.
    passed = not test[1] or kind == "todo"
    return Case(name=name, passed=passed, skipped=kind == "skip")
