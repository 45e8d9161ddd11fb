"""Moodle VPL: its activities, and reading the cases of `vpl_evaluate.cases`.

The rules are those of VPL's own evaluation program (`vpl_evaluate.cpp`) and of its scripts.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import Field

from job_engine.errors import AssignmentError
from job_engine.grading.contracts.problem_package import build_and_limits, number, program
from job_engine.grading.contracts.source import Read
from job_engine.grading.fields import StrictModel

CASES: Final = "vpl_evaluate.cases"
EVALUATE: Final = "vpl_evaluate.sh"
RUN: Final = "vpl_run.sh"
_PROGRAM: Final = "vpl_evaluate.cpp"
"""VPL's own evaluation."""
BUILD_SCRIPT: Final = "package_build.sh"
"""Builds the program of an activity without a `vpl_run.sh`."""
VPL_PROGRAM: Final = "vpl_test"
"""The program that the scripts build, beside the submission."""
DIRECTORY: Final = "vpl-cases"
"""Directory of the cases in the bundle, beside the activity's files."""
_UNUSED: Final = re.compile(r"vpl_debug\.sh|.*\.(md|html?|pdf)|readme.*", re.IGNORECASE)
_TAG: Final = re.compile(r"[^a-z]")
_GRADE: Final = 100.0
_SMALL_GRADE: Final = 10.0
"""Full score of an activity whose reductions are plain numbers with a sum up to this."""
_MIN_TIME_S: Final = 2.0


class Vpl(StrictModel):
    """Settings of a VPL activity that are in Moodle, not in its files."""

    grade_min: float = Field(0, allow_inf_nan=False)
    grade_max: float = Field(_GRADE, gt=0, allow_inf_nan=False)
    max_time_s: float = Field(60, gt=0, le=600, allow_inf_nan=False)
    """Longest time of the evaluation, in seconds."""


@dataclass
class Case:
    """One case of `vpl_evaluate.cases`."""

    title: str = ""
    input: str = ""
    outputs: list[str] = field(default_factory=list)
    arguments: str = ""
    reduction: str = ""
    message: str = ""
    exit_code: int | None = None
    variation: str = ""


def document(files: tuple[str, ...], read: Read) -> dict[str, Any]:
    """Return contract, limits and cases of an activity, as keys of an assignment's document.

    Raises `AssignmentError` for cases that cannot be read.
    """
    if _evaluates_itself(files, read):
        return {"contract": "vpl"}
    cases = _cases(read)
    time_s = max(_MIN_TIME_S, Vpl().max_time_s / len(cases))
    total = _total(cases)
    rules = {
        "directory": DIRECTORY,
        "checker": {"kind": "vpl"},
        "exit_code": "any",
        "time_s": time_s,
        "deduct_from": total,
        "cases": {
            _name(number): _rules(number, case, total, len(cases))
            for number, case in enumerate(cases, 1)
        },
    }
    if any(f not in (CASES, EVALUATE) and not _UNUSED.fullmatch(f) for f in files):
        # All other files are beside the program when it is built and run.
        return {"contract": "vpl", "cases": rules, "vpl": {"grade_max": total}}
    return {
        "contract": "cases",
        **build_and_limits(len(cases), time_s),
        "cases": {**rules, "program": program(None)},
    }


def generated(files: tuple[str, ...], read: Read) -> dict[str, bytes]:
    """Return the files of the cases, by their names in the bundle."""
    made: dict[str, bytes] = {}
    for index, case in enumerate([] if _evaluates_itself(files, read) else _cases(read), 1):
        path = f"{DIRECTORY}/{_name(index)}"
        made[f"{path}.in"] = case.input.encode()
        expected = {"outputs": case.outputs, "message": case.message}
        made[f"{path}.out"] = json.dumps(expected).encode()
        if case.arguments:
            made[f"{path}.args"] = "\n".join(shlex.split(case.arguments)).encode()
    return made


def _evaluates_itself(files: tuple[str, ...], read: Read) -> bool:
    """Whether an activity has an evaluation of its own.

    A copy of VPL's default script is none: it compiles VPL's program, which is not in it.
    """
    if EVALUATE not in files:
        return False
    default = CASES in files and _PROGRAM not in files and _PROGRAM.encode() in read(EVALUATE)
    return not default


def _name(index: int) -> str:
    return f"{index:03}"


def _rules(index: int, case: Case, total: float, count: int) -> dict[str, Any]:
    rules: dict[str, Any] = {
        "title": f"Test {index}" + (f": {case.title}" if case.title else ""),
        "points": _points(case, total, count),
    }
    rules["title"] = rules["title"][:200]
    if case.exit_code is not None:
        rules["exit_code"] = case.exit_code
    return rules


def _points(case: Case, total: float, count: int) -> float:
    """Return the points that a wrong answer costs: a number, a percentage, or an equal share."""
    told = number(case.reduction.removesuffix("%").strip())
    if told is None:
        return total / count
    return max(0.0, total * told / 100 if case.reduction.endswith("%") else told)


def _total(cases: list[Case]) -> float:
    plain = [number(case.reduction) for case in cases if case.reduction]
    known = [points for points in plain if points is not None]
    return _SMALL_GRADE if known and sum(known) <= _SMALL_GRADE else _GRADE


def _cases(read: Read) -> list[Case]:
    """Return the cases for activities without variations."""
    text = read(CASES).decode("utf-8", "replace")
    text = text.replace("\r", "") if "\n" in text else text.replace("\r", "\n")
    cases = [case for case in _Reader(text).cases if not case.variation]
    if not cases:
        raise AssignmentError(f"{CASES} has no case: a line that begins with `case =`, say.")
    for index, case in enumerate(cases, 1):
        if not case.outputs and case.exit_code is None:
            raise AssignmentError(f"{CASES}: case {index} has neither an output nor an exit code.")
    return cases


class _Reader:
    """Reads the file line by line; a text ends at its own end mark, or at a tag that may follow."""

    def __init__(self, text: str) -> None:
        self.cases: list[Case] = []
        self._case: Case | None = None
        self._ends = {"input": "", "output": ""}
        self._in: str | None = None
        self._output = ""
        for index, line in enumerate(text.removesuffix("\n").split("\n"), 1):
            self._take(line, index)
        self._close()

    def _take(self, line: str, index: int) -> None:
        before, equals, value = line.partition("=")
        tag = _TAG.sub("", before.lower()) if equals else ""
        if self._in is not None and self._continues(self._in, tag, line):
            return
        if tag in ("input", "output"):
            self._begin(tag, value)
        elif tag in ("inputend", "outputend"):
            self._ends[tag.removesuffix("end")] = value.strip()
        elif tag == "case":
            self._case = Case(title=value.strip())
            self.cases.append(self._case)
        elif tag in _SETTERS:
            _set(self._current(), tag, value.strip(), index)
        elif line.strip():
            raise AssignmentError(f"{CASES}, line {index}: what is {line.strip()[:80]!r}?")

    def _continues(self, text: str, tag: str, line: str) -> bool:
        """Return whether a line belongs to the open input or output, which it may close."""
        end = self._ends[text]
        if end and end in line:
            self._add(line[: line.index(end)])
            self._close()
            return True
        if end or tag not in _MAY_FOLLOW[text]:
            self._add(f"{line}\n")
            return True
        self._close()
        return False

    def _current(self) -> Case:
        if self._case is None:
            self._case = Case()
            self.cases.append(self._case)
        return self._case

    def _begin(self, tag: str, value: str) -> None:
        self._current()
        self._in = tag
        end = self._ends[tag]
        if end and end in value:
            self._add(value[: value.index(end)])
            self._close()
        else:
            self._add(f"{value}\n")

    def _add(self, text: str) -> None:
        if self._in == "input":
            self._current().input += text
        else:
            self._output += text

    def _close(self) -> None:
        if self._in == "output":
            if not self._ends["output"]:
                self._output = self._output.removesuffix("\n")
            self._current().outputs.append(self._output)
        self._in, self._output = None, ""


_MAY_FOLLOW: Final[Mapping[str, frozenset[str]]] = {
    "input": frozenset({"output", "gradereduction", "case"}),
    "output": frozenset({"input", "output", "gradereduction", "case"}),
}
"""Tags that end a text without an end mark."""
_SETTERS: Final[Mapping[str, str]] = {
    "gradereduction": "reduction",
    "failmessage": "message",
    "programarguments": "arguments",
    "expectedexitcode": "exit_code",
    "variation": "variation",
}


def _set(case: Case, tag: str, value: str, index: int) -> None:
    if tag != "expectedexitcode":
        setattr(case, _SETTERS[tag], value)
        return
    try:
        case.exit_code = int(value)
    except ValueError:
        raise AssignmentError(f"{CASES}, line {index}: the exit code is no number.") from None
