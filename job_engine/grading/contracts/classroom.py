"""GitHub Classroom: its tests, and reading them from `autograding.json` or a workflow.

The rules are those of the runners, `education/autograding` and `classroom-resources/`
`autograding-io-grader`, `-command-grader` and `-python-grader`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, model_validator

from job_engine.errors import AssignmentError
from job_engine.grading.contracts.source import Read
from job_engine.grading.fields import RelativePath, StrictModel
from job_engine.grading.yaml_lines import load

_JSON: Final = ".github/classroom/autograding.json"
_WORKFLOWS: Final = tuple(
    f".github/workflows/{name}.{end}"
    for name in ("classroom", "autograding")
    for end in ("yml", "yaml")
)
FILES: Final = (_JSON, *_WORKFLOWS)
"""Files that have the tests; the first one that is there counts."""
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
"""Time-out of a step of a workflow that sets none."""


def _text(value: Any) -> Any:
    """Return a scalar of YAML or JSON as text; empty for null."""
    if value is None:
        return ""
    return str(value) if isinstance(value, (int, float)) else value


def _number(value: Any, default: float) -> Any:
    return default if value in (None, "") else value


Text = Annotated[str, BeforeValidator(_text)]


class ClassroomTest(StrictModel):
    """One test: a command that must exit with 0 and, if `output` is set, print it."""

    name: Text
    setup: Text = ""
    """Run by `sh -c` before it; where it fails, so does the test."""
    run: Text = ""
    """Run by `sh -c`, in the student's repository."""
    pytest: bool = False
    """Instead of `run`: pytest on all `*_test.py` of the repository; its tests share the points."""
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


class Classroom(StrictModel):
    """`classroom:` of an assignment."""

    tests: list[ClassroomTest] = Field(min_length=1, max_length=1000)
    protected: list[RelativePath] = []
    """Files and directories of the course's repository that replace those of the submission;
    its other files are added where the submission lacks them."""


def from_json(data: bytes) -> dict[str, Any]:
    """Return the tests of `autograding.json`; raises `AssignmentError`."""
    try:
        value = json.loads(data)
    except ValueError as error:
        raise AssignmentError(f"{_JSON} is not valid JSON: {error}") from None
    tests = value.get("tests") if isinstance(value, Mapping) else value
    if not isinstance(tests, list) or not all(isinstance(test, Mapping) for test in tests):
        raise AssignmentError(f"{_JSON} has no list of tests.")
    return _document([{key: t[key] for key in _JSON_KEYS if t.get(key) is not None} for t in tests])


def from_workflow(data: bytes) -> dict[str, Any]:
    """Return the tests of a workflow; commands between two graders are setup of the second."""
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


def document(files: tuple[str, ...], read: Read) -> dict[str, Any]:
    """Return the tests of a repository, as keys of an assignment's document.

    Raises `AssignmentError` for a file that cannot be read, or has no test.
    """
    name = next((name for name in FILES if name in files), None)
    if name is None:
        return {}
    return from_json(read(name)) if name == _JSON else from_workflow(read(name))


def _grader(uses: str) -> str | None:
    name = uses.partition("@")[0].rpartition("/")[2]
    known = {f"autograding-{kind}-grader": kind for kind in ("io", "command", "python")}
    return known.get(name)


def _step(step: Mapping[str, Any], grader: str, before: list[str]) -> dict[str, Any]:
    inputs = step.get("with") or {}
    test = {key: inputs[name] for name, key in _WITH.items() if inputs.get(name) is not None}
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
