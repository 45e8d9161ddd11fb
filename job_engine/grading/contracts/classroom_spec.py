"""GitHub Classroom's autograding: its tests, as `autograding.json` or a workflow says them.

The rules are those of the runners, `education/autograding` and `classroom-resources/`
`autograding-io-grader`, `-command-grader` and `-python-grader`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from job_engine.errors import AssignmentError
from job_engine.grading.fields import RelativePath
from job_engine.grading.yaml_lines import load

_JSON: Final = ".github/classroom/autograding.json"
_WORKFLOWS: Final = tuple(
    f".github/workflows/{name}.{end}"
    for name in ("classroom", "autograding")
    for end in ("yml", "yaml")
)
_JSON_KEYS: Final = ("name", "setup", "run", "input", "output", "comparison", "timeout", "points")
_WITH: Final = {
    "test-name": "name",
    "setup-command": "setup",
    "command": "run",
    "input": "input",
    "expected-output": "output",
    "comparison-method": "comparison",
    "timeout": "timeout",
    "max-score": "points",
}
"""Inputs of the workflow's graders, and what `autograding.json` calls them."""
_COMPARISONS: Final = {"contains": "included", "": "included"}
_WORKFLOW_MINUTES: Final = 10
"""Where a step of the workflow says none."""


def _text(value: Any) -> Any:
    """Numbers are written without quotes, and null stands for nothing."""
    if value is None:
        return ""
    return str(value) if isinstance(value, (int, float)) else value


def _number(value: Any, default: float) -> Any:
    return default if value in (None, "") else value


Text = Annotated[str, BeforeValidator(_text)]


class ClassroomTest(BaseModel):
    """One test: a command that has to end well and, where something is expected, to print it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Text
    setup: Text = ""
    """Run by `sh -c` before it; where it fails, so does the test."""
    run: Text = ""
    """Run by `sh -c`, in the student's repository."""
    pytest: bool = False
    """Instead of `run`: all of the repository's `*_test.py`, with the points divided by them."""
    input: Text = ""
    output: Text = ""
    comparison: Literal["included", "exact", "regex"] = "included"
    timeout: Annotated[float, BeforeValidator(lambda v: _number(v, 1))] = Field(
        1, gt=0, allow_inf_nan=False
    )
    """Minutes, for each of the two commands."""
    points: Annotated[float, BeforeValidator(lambda v: _number(v, 0))] = Field(
        0, ge=0, allow_inf_nan=False
    )

    @model_validator(mode="after")
    def _does_something(self) -> ClassroomTest:
        if bool(self.run.strip()) == self.pytest:
            raise ValueError("run: a command is needed")
        return self


class Classroom(BaseModel):
    """`classroom:` of an assignment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tests: list[ClassroomTest] = Field(min_length=1, max_length=1000)
    protected: list[RelativePath] = []
    """Files and directories of the course's repository that stand, whatever was submitted;
    of the others only those are added that a submission lacks."""


def from_json(data: bytes) -> dict[str, Any]:
    """Return what `autograding.json` says; raises `AssignmentError`."""
    try:
        value = json.loads(data)
    except ValueError as error:
        raise AssignmentError(f"{_JSON} is not valid JSON: {error}") from None
    tests = value.get("tests") if isinstance(value, Mapping) else value
    if not isinstance(tests, list) or not all(isinstance(test, Mapping) for test in tests):
        raise AssignmentError(f"{_JSON} has no list of tests.")
    return _document([{key: t[key] for key in _JSON_KEYS if t.get(key) is not None} for t in tests])


def from_workflow(data: bytes) -> dict[str, Any]:
    """Return what the steps of a workflow say; commands between graders go before the next one."""
    value, _ = load(data, "the workflow")
    jobs = value.get("jobs") if isinstance(value, Mapping) else None
    tests: list[dict[str, Any]] = []
    before: list[str] = []
    for job in (jobs or {}).values():
        for step in (job.get("steps") if isinstance(job, Mapping) else None) or []:
            grader = _grader(str(step.get("uses", "")))
            if grader is not None:
                tests.append(_step(step, grader, before))
                before = []
            elif isinstance(step.get("run"), str):
                before.append(step["run"].strip())
    return _document(tests)


READERS: Final[Mapping[str, Callable[[bytes], dict[str, Any]]]] = MappingProxyType(
    {_JSON: from_json, **dict.fromkeys(_WORKFLOWS, from_workflow)}
)
"""By the file that is read; the first one that is there counts."""


def _grader(uses: str) -> str | None:
    name = uses.partition("@")[0].rpartition("/")[2]
    known = {f"autograding-{kind}-grader": kind for kind in ("io", "command", "python")}
    return known.get(name)


def _step(step: Mapping[str, Any], grader: str, before: list[str]) -> dict[str, Any]:
    given = step.get("with") or {}
    test = {ours: given[theirs] for theirs, ours in _WITH.items() if given.get(theirs) is not None}
    test = {"timeout": _WORKFLOW_MINUTES, **test}
    test.setdefault("name", str(step.get("name") or step.get("id") or "Test"))
    setup = [*before, str(test.get("setup", ""))]
    test["setup"] = "\n".join(line for line in setup if line)
    if grader == "python":
        test = {k: v for k, v in test.items() if k in ("name", "setup", "timeout", "points")}
        test["pytest"] = True
    elif grader == "command":
        test = {k: v for k, v in test.items() if k not in ("input", "output", "comparison")}
    else:
        test["input"] = str(test.get("input", "")).strip()
    return test


def _document(tests: list[dict[str, Any]]) -> dict[str, Any]:
    if not tests:
        raise AssignmentError("GitHub Classroom's configuration has no test: there is none to run.")
    for test in tests:
        comparison = str(test.get("comparison", ""))
        test["comparison"] = _COMPARISONS.get(comparison, comparison)
    return {"classroom": {"tests": tests}}
