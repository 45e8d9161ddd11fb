"""Reading a workflow of GitHub's: the tests of GitHub Classroom's graders, and the steps before.

The graders are `autograding-io-grader`, `-command-grader` and `-python-grader` of
`classroom-resources`; the rest is of "Workflow syntax for GitHub Actions".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from job_engine.errors import AssignmentError

_RUNNER: Final = "autograding"
"""Action that runs the tests of `autograding.json`."""
_GRADERS: Final = {f"autograding-{kind}-grader": kind for kind in ("io", "command", "python")}
_EXPRESSION: Final = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_VARIABLE: Final = re.compile(r"env\.([\w-]+)|env\['([\w-]+)'\]")
_WORKSPACE: Final = "${{ github.workspace }}"
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
_SHELLS: Final = {
    "bash": "bash --noprofile --norc -eo pipefail",
    "sh": "sh -e",
    "python": "python3",
}
"""Commands for the shells that a workflow names; others are commands themselves."""
_NUMBERS: Final = {"timeout", "points"}
_MINUTES: Final = 10
"""Time-out of a step of a workflow that sets none."""
_NEVER: Final = {"false", "failure()", "cancelled()"}
"""Conditions of what runs in no run that could give points."""
_ALWAYS: Final = {"always()", "!cancelled()"}
_HOLDS: Final = re.compile(
    r"|true|success\(\)"
    # Of Classroom's own workflow, and of templates: they hold once a student has pushed.
    r"|github\.actor!='[^']*\[bot\]'|!contains\(github\.actor,'[^']*classroom[^']*'\)"
    r"|!github\.event\.repository\.is_template"
)


def tests_of(workflow: Any) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Return the tests of a workflow, and what holds of those of `autograding.json`.

    The latter is None where the workflow does not run them; else `env` and `before`, of the
    first one, and `always`, of each. Raises `AssignmentError` for a grader or a condition that
    is not known, and for a workflow that runs both kinds.
    """
    workflow = workflow if isinstance(workflow, Mapping) else {}
    tests: list[dict[str, Any]] = []
    of_file: dict[str, Any] | None = None
    for job in _inner(workflow, "jobs").values():
        for index, (action, step) in enumerate(_graded(job, workflow)):
            if action == _RUNNER:
                of_file = of_file or step
            else:
                # Each job of GitHub's has a machine of its own.
                tests.append({**step, "new_job": True} if tests and not index else step)
    if tests and of_file is not None:
        raise AssignmentError(
            "The workflow has graders, and education/autograding, which runs the tests of "
            "autograding.json. Keep one of the two: leave that step out, or the graders."
        )
    return tests, of_file


def text(value: Any) -> Any:
    """Return a scalar of YAML or JSON as text; empty for null."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (int, float)) else value


def _graded(job: Any, workflow: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the actions of a job that give points, with their tests and the steps before these.

    A job without any runs nothing here, nor does what comes after the last.
    """
    if not isinstance(job, Mapping) or _condition(job) in _NEVER:
        return
    listed = job.get("steps")
    steps = [
        (_grader(step), step)
        for step in (listed if isinstance(listed, list) else [])
        if isinstance(step, Mapping) and _condition(step) not in _NEVER
    ]
    last = max((index for index, (action, _) in enumerate(steps) if action), default=-1)
    if last >= 0:
        _always(job)
    shared = _environment(workflow, job)
    first = {"env": shared} if shared else {}
    before: list[dict[str, Any]] = []
    for action, step in steps[: last + 1]:
        if not action and not isinstance(step.get("run"), str):
            continue
        always = {"always": True} if _always(step) else {}
        if not action:
            before.append({**_command(step, job, workflow), **always})
            continue
        test = _test(step, _GRADERS[action], shared) if action in _GRADERS else {}
        yield action, {**test, **first, **({"before": before} if before else {}), **always}
        first, before = {}, []


def _grader(step: Mapping[str, Any]) -> str:
    """Return the action of a step that gives points, without its publisher; empty for any other."""
    action = str(step.get("uses", "")).partition("@")[0].rpartition("/")[2]
    if action == _RUNNER or action in _GRADERS:
        return action
    if action.startswith("autograding-") and action.endswith("-grader"):
        raise AssignmentError(
            f"The workflow grades with {action}, which is not known: of Classroom's graders "
            f"{', '.join(_GRADERS)} are taken."
        )
    return ""


def _condition(scope: Mapping[str, Any]) -> str:
    """Return the condition of a job or a step, without spaces and in small letters."""
    value = str(text(scope.get("if"))).strip()
    if whole := _EXPRESSION.fullmatch(value):
        value = whole[1]
    return "".join(value.split()).lower()


def _always(scope: Mapping[str, Any]) -> bool:
    """Return whether a job or a step runs even where one before it failed.

    Raises `AssignmentError` for a condition of which is not known whether it holds.
    """
    condition = _condition(scope)
    if condition in _ALWAYS:
        return True
    if not _HOLDS.fullmatch(condition):
        name = scope.get("name") or scope.get("run") or scope.get("uses") or "a job with tests"
        first = str(name).strip().partition("\n")[0]
        raise AssignmentError(
            f"The workflow has 'if: {scope['if']}' at {first!r}: whether that holds is not known "
            "here. Leave the condition out, or write true, false, always() or success()."
        )
    return False


def _environment(*scopes: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables of scopes, of which the later ones count before the earlier ones."""
    env: dict[str, str] = {}
    for scope in scopes:
        env |= {str(k): _substituted(text(v), env) for k, v in _inner(scope, "env").items()}
    return env


def _command(
    step: Mapping[str, Any], job: Mapping[str, Any], workflow: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a step that is a command."""
    env = _environment(step)
    defaults = [_inner(_inner(scope, "defaults"), "run") for scope in (workflow, job)]
    merged = {**defaults[0], **defaults[1], **step}
    command: dict[str, Any] = {"run": _substituted(step["run"], env)}
    if shell := _substituted(merged.get("shell"), env):
        command["shell"] = _SHELLS.get(str(shell), str(shell).replace("{0}", "").strip())
    if env:
        command["env"] = env
    if directory := merged.get("working-directory"):
        command["directory"] = _directory(_substituted(str(directory), env))
    if step.get("continue-on-error") is True:
        command["may_fail"] = True
    return command


def _inner(mapping: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = mapping.get(key)
    return value if isinstance(value, Mapping) else {}


def _directory(name: str) -> str:
    """Return a directory of the repository, which may be given with the workspace before it."""
    if name.startswith(_WORKSPACE):
        name = name.removeprefix(_WORKSPACE).lstrip("/")
    return name.removeprefix("./") or "."


def _substituted(value: Any, env: Mapping[str, str]) -> Any:
    """Return a text with the values of its expressions.

    The workspace, and variables that are not in `env`, stay for the harness in the form that
    it knows, for steps may set these; expressions of any other kind are left out.
    """

    def replaced(found: re.Match[str]) -> str:
        expression = found[1].strip()
        if expression == "github.workspace":
            return _WORKSPACE
        variable = _VARIABLE.fullmatch(expression)
        if variable is None:
            return ""
        name = variable[1] or variable[2]
        return str(env.get(name, f"${{{{ env.{name} }}}}"))

    return _EXPRESSION.sub(replaced, value) if isinstance(value, str) else value


def _test(step: Mapping[str, Any], kind: str, shared: Mapping[str, str]) -> dict[str, Any]:
    """Return the test of a grader; `shared` are the variables of all steps of its job."""
    inputs = _inner(step, "with")
    env = _environment(step)
    test = {
        # Numbers must be known before it runs.
        key: _substituted(inputs[name], {**shared, **env} if key in _NUMBERS else env)
        for name, key in _WITH.items()
        if inputs.get(name) is not None
    }
    test = {"timeout": _MINUTES, **test}
    title = str(step.get("name") or step.get("id") or "Test")
    test.setdefault("name", _substituted(title, env))
    if kind == "python":
        test = {k: v for k, v in test.items() if k in ("name", "setup", "timeout", "points")}
        test["pytest"] = True
    elif kind == "command":
        test = {k: v for k, v in test.items() if k not in ("input", "output", "comparison")}
    else:
        test["input"] = str(test.get("input", "")).strip()
    return test
