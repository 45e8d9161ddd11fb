"""GitHub Classroom: its tests, and reading them from `autograding.json` or a workflow.

The rules are those of the runner `education/autograding`, and of the graders of workflows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, model_validator

from job_engine.errors import AssignmentError
from job_engine.grading.contracts.classroom_workflow import tests_of, text
from job_engine.grading.contracts.source import Read
from job_engine.grading.fields import EnvName, RelativePath, StrictModel
from job_engine.grading.yaml_lines import load

_JSON: Final = ".github/classroom/autograding.json"
_DIRECTORY: Final = ".github/workflows/"
_WORKFLOWS: Final = tuple(
    f"{_DIRECTORY}{name}.{end}" for name in ("classroom", "autograding") for end in ("yml", "yaml")
)
FILES: Final = (_JSON, *_WORKFLOWS)
"""Files with the tests, in order of precedence."""
ANY_WORKFLOW: Final = _DIRECTORY
"""Directory of workflows with any other name."""
_JSON_KEYS: Final = ("name", "setup", "run", "input", "output", "comparison", "timeout", "points")
_COMPARISONS: Final = {"contains": "included", "": "included"}


def _number(value: Any, default: float) -> Any:
    return default if value in (None, "", 0) else value


Text = Annotated[str, BeforeValidator(text)]


class Step(StrictModel):
    """A command of a workflow that runs before a test."""

    run: Text
    shell: Text = ""
    """Command to which its file is given; empty: `bash -e`."""
    env: dict[EnvName, Text] = {}
    directory: RelativePath = "."
    may_fail: bool = False
    always: bool = False
    """Even where a step before it failed."""


class ClassroomTest(StrictModel):
    """One test: a command that must exit with 0 and, if `output` is set, print it."""

    name: Text
    before: list[Step] = []
    """Run once, in turn; where one fails, neither this test nor any after it in its job runs."""
    env: dict[EnvName, Text] = {}
    """Variables of all steps from here on; in texts of tests they stand as `${{ env.NAME }}`."""
    new_job: bool = False
    """It is the first of another job of the workflow: what failed before it does not count."""
    always: bool = False
    """Even where a step before it failed."""
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
    its other files are added where the submission lacks them. A link of these to what is not
    protected is replaced by what is behind it in the course's repository."""


def from_json(data: bytes, common: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the tests of `autograding.json`.

    What the workflow says of them is in `common`: `env` and `before`, of the first, and `always`.
    Raises `AssignmentError`.
    """
    try:
        value = json.loads(data)
    except ValueError as error:
        raise AssignmentError(f"{_JSON} is not valid JSON: {error}") from None
    tests = value.get("tests") if isinstance(value, Mapping) else value
    if not isinstance(tests, list) or not all(isinstance(test, Mapping) for test in tests):
        raise AssignmentError(f"{_JSON} has no list of tests.")
    always = {key: value for key, value in (common or {}).items() if key == "always"}
    found = [
        {**{key: test[key] for key in _JSON_KEYS if test.get(key) is not None}, **always}
        for test in tests
    ]
    if found:
        found[0] |= common or {}
    return _document(found)


def document(files: tuple[str, ...], read: Read) -> dict[str, Any]:
    """Return the tests of a repository, as keys of an assignment's document.

    Those of a workflow count before `autograding.json`, which stays when a course changes over;
    of several workflows with tests the first counts.
    Raises `AssignmentError` for a file that cannot be read or has no test, and for what a
    workflow has that is not known.
    """
    # All are read before one is chosen: none may have a grader that would be left out unsaid.
    found = [tests_of(workflow) for workflow in _workflows(files, read)]
    for tests, _ in found:
        if tests:
            return _document(tests)
    if _JSON in files:
        return from_json(read(_JSON), next((keys for _, keys in found if keys), None))
    if any(name in files for name in FILES):
        return _document([])
    raise AssignmentError(
        f"No workflow of {_DIRECTORY} has a test of GitHub Classroom's (autograding-command-grader "
        "or another), and nothing else tells how to grade this: docs/assignments.md says what can "
        "be taken."
    )


def _workflows(files: tuple[str, ...], read: Read) -> Iterator[Any]:
    """Yield the parsed workflows, those with the usual names first.

    Raises `AssignmentError` for one of these that is not valid; others may be of other tools.
    """
    others = [
        name
        for name in sorted(files)
        if name.startswith(_DIRECTORY) and name.endswith((".yml", ".yaml"))
    ]
    for name in dict.fromkeys([*(name for name in _WORKFLOWS if name in files), *others]):
        try:
            workflow, _ = load(read(name), name)
        except AssignmentError:
            if name in _WORKFLOWS:
                raise
            continue
        yield workflow


def _document(tests: list[dict[str, Any]]) -> dict[str, Any]:
    if not tests:
        raise AssignmentError("GitHub Classroom's configuration has no test: there is none to run.")
    for test in tests:
        comparison = str(test.get("comparison", ""))
        test["comparison"] = _COMPARISONS.get(comparison, comparison)
    return {"classroom": {"tests": tests}}
