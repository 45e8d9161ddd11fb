"""GitHub Classroom: its tests, and reading them from `autograding.json` or a workflow.

The rules are those of the runners, `education/autograding` and `classroom-resources/`
`autograding-io-grader`, `-command-grader` and `-python-grader`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, model_validator

from job_engine.errors import AssignmentError
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
_RUNNER: Final = "autograding"
"""Action that runs the tests of `autograding.json`."""
_EXPRESSION: Final = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_VARIABLE: Final = re.compile(r"env\.(\w+)")
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
_SHELLS: Final = {
    "bash": "bash --noprofile --norc -eo pipefail",
    "sh": "sh -e",
    "python": "python3",
}
"""Commands for the shells that a workflow names; others are commands themselves."""
_WORKFLOW_MINUTES: Final = 10
"""Time-out of a step of a workflow that sets none."""


def _text(value: Any) -> Any:
    """Return a scalar of YAML or JSON as text; empty for null."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (int, float)) else value


def _number(value: Any, default: float) -> Any:
    return default if value in (None, "", 0) else value


Text = Annotated[str, BeforeValidator(_text)]


class Step(StrictModel):
    """A command of a workflow that runs before a test."""

    run: Text
    shell: Text = ""
    """Command to which its file is given; empty: `bash -e`."""
    env: dict[EnvName, Text] = {}
    directory: RelativePath = "."
    may_fail: bool = False


class ClassroomTest(StrictModel):
    """One test: a command that must exit with 0 and, if `output` is set, print it."""

    name: Text
    before: list[Step] = []
    """Run once, in turn; where one fails, neither this test nor any after it runs."""
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


def from_json(data: bytes, before: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """Return the tests of `autograding.json`, `before` them steps of the workflow.

    Raises `AssignmentError`.
    """
    try:
        value = json.loads(data)
    except ValueError as error:
        raise AssignmentError(f"{_JSON} is not valid JSON: {error}") from None
    tests = value.get("tests") if isinstance(value, Mapping) else value
    if not isinstance(tests, list) or not all(isinstance(test, Mapping) for test in tests):
        raise AssignmentError(f"{_JSON} has no list of tests.")
    found = [{key: t[key] for key in _JSON_KEYS if t.get(key) is not None} for t in tests]
    if before and found:
        found[0]["before"] = before
    return _document(found)


def from_workflow(data: bytes) -> dict[str, Any]:
    """Return the tests of a workflow; raises `AssignmentError`."""
    return _document(_steps(data)[0])


def document(files: tuple[str, ...], read: Read) -> dict[str, Any]:
    """Return the tests of a repository, as keys of an assignment's document.

    Those of a workflow count before `autograding.json`, which stays when a course changes over.
    Raises `AssignmentError` for a file that cannot be read, or has no test.
    """
    before: list[dict[str, Any]] = []
    for name in _workflows(files):
        try:
            tests, steps = _steps(read(name))
        except AssignmentError:
            if name in _WORKFLOWS and _JSON not in files:
                raise
            continue
        if tests:
            return _document(tests)
        before = before or steps
    if _JSON in files:
        return from_json(read(_JSON), before)
    if any(name in files for name in FILES):
        return _document([])
    raise AssignmentError(
        f"No workflow of {_DIRECTORY} has a test of GitHub Classroom's (autograding-command-grader "
        "or another), and nothing else tells how to grade this: docs/assignments.md says what can "
        "be taken."
    )


def _workflows(files: tuple[str, ...]) -> list[str]:
    """Return the workflows, those with the usual names first."""
    others = [
        name
        for name in sorted(files)
        if name.startswith(_DIRECTORY) and name.endswith((".yml", ".yaml"))
    ]
    return list(dict.fromkeys([*(name for name in _WORKFLOWS if name in files), *others]))


def _steps(data: bytes) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the tests of a workflow, and the steps before the one that runs `autograding.json`."""
    value, _ = load(data, "the workflow")
    workflow = value if isinstance(value, Mapping) else {}
    tests: list[dict[str, Any]] = []
    before: list[dict[str, Any]] = []
    jobs = workflow.get("jobs")
    for job in (jobs if isinstance(jobs, Mapping) else {}).values():
        steps = job.get("steps") if isinstance(job, Mapping) else None
        for step in steps if isinstance(steps, list) else []:
            if not isinstance(step, Mapping):
                continue
            action = str(step.get("uses", "")).partition("@")[0].rpartition("/")[2]
            if action == _RUNNER:
                return [], before
            if grader := _grader(action):
                tests.append({**_test(step, grader), **({"before": before} if before else {})})
                before = []
            elif isinstance(step.get("run"), str) and "failure()" not in str(step.get("if", "")):
                before.append(_step(step, job, workflow))
    return tests, []


def _grader(action: str) -> str | None:
    known = {f"autograding-{kind}-grader": kind for kind in ("io", "command", "python")}
    if action.startswith("autograding-") and action.endswith("-grader") and action not in known:
        raise AssignmentError(
            f"The workflow grades with {action}, which is not known: of Classroom's graders "
            f"{', '.join(known)} are taken."
        )
    return known.get(action)


def _step(
    step: Mapping[str, Any], job: Mapping[str, Any], workflow: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a command of a workflow; what it says of all its steps counts where the step does not.

    Source: "Workflow syntax for GitHub Actions".
    """
    scopes = (workflow, job, step)
    defaults = [_inner(_inner(scope, "defaults"), "run") for scope in scopes[:2]]
    merged = {**defaults[0], **defaults[1], **step}
    env: dict[str, str] = {}
    for scope in scopes:
        env |= {str(k): _plain(_text(v), env) for k, v in _inner(scope, "env").items()}
    command: dict[str, Any] = {"run": _plain(step["run"])}
    if shell := merged.get("shell"):
        command["shell"] = _SHELLS.get(str(shell), str(shell).replace("{0}", "").strip())
    if env:
        command["env"] = env
    if directory := merged.get("working-directory"):
        command["directory"] = _directory(str(directory))
    if step.get("continue-on-error") is True:
        command["may_fail"] = True
    return command


def _inner(mapping: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = mapping.get(key)
    return value if isinstance(value, Mapping) else {}


def _directory(name: str) -> str:
    """Return a directory of the repository, which may be given with the workspace before it."""
    return _EXPRESSION.sub("", name).strip("/").removeprefix("./") or "."


def _plain(text: Any, env: Mapping[str, str] | None = None) -> Any:
    """Return a text without a workflow's expressions.

    They become variables of the shell, or values of `env`, if that is given; those that name
    neither a variable nor the workspace are left out.
    """

    def variable(found: re.Match[str]) -> str:
        name = found[1].strip()
        if name == "github.workspace":
            return "$GITHUB_WORKSPACE"
        named = _VARIABLE.fullmatch(name)
        if named is None:
            return ""
        return f"${named[1]}" if env is None else env.get(named[1], "")

    return _EXPRESSION.sub(variable, text) if isinstance(text, str) else text


def _test(step: Mapping[str, Any], grader: str) -> dict[str, Any]:
    inputs = _inner(step, "with")
    test = {
        key: _plain(inputs[name]) for name, key in _WITH.items() if inputs.get(name) is not None
    }
    test = {"timeout": _WORKFLOW_MINUTES, **test}
    test.setdefault("name", str(step.get("name") or step.get("id") or "Test"))
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
