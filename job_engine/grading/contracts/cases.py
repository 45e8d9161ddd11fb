"""The section `cases:` of an assignment: inputs, expected outputs, and their comparison."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ByteSize,
    Field,
    JsonValue,
    model_validator,
)

from job_engine.grading.fields import Command, RelativePath, StrictModel
from job_engine.grading.results.model import Visibility


class Checker(StrictModel):
    """The comparison of output with the expected output; a text alone is its kind."""

    kind: Literal["exact", "lines", "tokens", "floats", "custom", "kattis", "vpl"]
    """`exact`: byte by byte. `lines`: ignores white space at ends of lines and empty lines at the
    end. `tokens`: compares words. `floats`: compares words, and numbers within a tolerance.
    `custom`: a program of the assignment. `kattis`: the output validator of a problem package
    (the Kattis problem package format, "Output Validators"). `vpl`: as Moodle's VPL does; the
    expected output is JSON, with a list `outputs` and a `message`."""
    tolerance: float = Field(1e-6, ge=0, allow_inf_nan=False)
    """For `floats`: absolute, or relative to the expected number, whichever is larger."""
    ignore_case: bool = False
    command: Command | None = None
    """For `custom`: called with the names of three files: input, output, expected output. Exit
    code 0 means right; 1, 2, 4 or 8 wrong; 7 partly right, by the fraction (0 to 1) that it
    prints first; any other is a fault of the assignment. The rest of its output is the message.
    For `kattis`: called with the files of input and expected output and a directory for
    feedback, with the program's output on standard input. 42 means right, 43 wrong;
    `teammessage.txt` is the message, and `score.txt` or `score_multiplier.txt`, if it exists,
    has the points or the fraction."""
    build: Command | None = None
    """Runs once, before the first case, to build the program of `command`."""
    interactive: bool = False
    """Of `kattis`: it runs beside the program, and the output of each is the other's input."""

    @model_validator(mode="after")
    def _complete(self) -> Checker:
        if (self.kind in ("custom", "kattis")) != (self.command is not None):
            raise ValueError("command: it goes with 'kind: custom' or 'kattis', and they with it")
        if self.interactive and self.kind != "kattis":
            raise ValueError("interactive: it goes with 'kind: kattis'; others are an interactor")
        return self


class Interactor(StrictModel):
    """A program of staff's that talks with the student's; text alone or a list is its command."""

    command: Command
    """The output of each is the input of the other. Called with the names of three files: input,
    one that it may write, what is expected. Its exit codes are those of a `custom` checker; if
    it accepts, and there is a checker, that judges what it wrote."""
    build: Command | None = None
    """Runs once, before the first case, to build the program of `command`."""


def _interactor(value: Any) -> Any:
    return {"command": value} if isinstance(value, (str, list)) else value


def _checker(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


class CaseRules(StrictModel):
    """Rules for one case, a group of cases, or all."""

    checker: Annotated[Checker, BeforeValidator(_checker)] | None = None
    """Default: tokens; with an interactor, none."""
    interactor: Annotated[Interactor, BeforeValidator(_interactor)] | None = None
    points: float | None = Field(None, ge=0, allow_inf_nan=False)
    """Of each case; default: 1."""
    time_s: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Wall time of one run; default: 5 s."""
    output_bytes: ByteSize | None = Field(None, gt=0)
    """Most that one run may print; default: 1 MiB."""
    visibility: Visibility | None = None
    """Default: visible."""
    exit_code: Literal["any"] | Annotated[int, Field(ge=0, le=255)] | None = None
    """What the program must end with; default: 0."""
    shown: bool | None = None
    """Whether of a wrong answer both it and the expected one are shown; default: true."""
    title: str | None = Field(None, max_length=200)
    """Of the test, in place of the case's name."""


class CaseGroup(CaseRules):
    """The cases in one directory."""

    all_or_nothing: bool = False
    """Whether one wrong case takes the points of all."""
    worst_counts: bool = False
    """Whether each case gets the fraction of its points that the worst of them got."""


class Cases(CaseRules):
    """The cases: `NAME.in` and `NAME.out` (or `.ans`) below `tests/`, a directory a group.

    `NAME.args`, where there is one, has an argument of the program on each line.
    """

    program: JsonValue = None
    """The student's program, as `phases.test.program`."""
    all_or_nothing: bool = False
    """Whether one wrong case takes the points of all; those after it are then not run."""
    deduct_from: float | None = Field(None, ge=0, allow_inf_nan=False)
    """Points of all: wrong cases take theirs off it, down to 0. None: the sum of the cases'."""
    directory: RelativePath = "."
    """Where they are, below `tests/`."""
    groups: dict[str, CaseGroup] = {}
    cases: dict[str, CaseRules] = {}
    """Single cases by name: `group/NAME`."""
