"""TAP, the Test Anything Protocol, versions 12 to 14, without subtests' points.

Source of the grammar: https://testanything.org/tap-version-14-specification.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
    found = _Document()
    for line in output.lines("-"):
        found.add(line)
        if found.bailed_out:
            break
    cases, planned = found.cases, found.planned
    if planned is None and not cases:
        raise HarnessError("The tests printed no TAP: neither a plan nor a test line.")
    for number in range(len(cases) + 1, (planned or 0) + 1):
        cases.append(Case(name=f"Test {number}", passed=False, lines=["planned, but never ran"]))
    reading = reading_of(cases, output.weights, output=found.bailed_out)
    return replace(reading, total_known=planned is not None or not output.cut_short)


@dataclass
class _Document:
    """What was read of a TAP document so far."""

    cases: list[Case] = field(default_factory=list)
    planned: int | None = None
    bailed_out: str = ""

    def add(self, line: str) -> None:
        if plan := _PLAN.fullmatch(line):
            self.planned = min(int(plan[1]), _MAX_PLAN)
        elif line.startswith("Bail out!"):
            self.bailed_out = line
        elif len(self.cases) > MAX_CASES:
            return  # not parsed, because a case takes a hundred times the memory of its line
        elif test := _TEST.fullmatch(line):
            self.cases.append(_case(test, len(self.cases) + 1))
        elif self.cases and line.startswith(("#", "  ")):
            self.cases[-1].lines.append(line)


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
