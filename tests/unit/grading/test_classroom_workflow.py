"""GitHub Classroom's tests in workflows: which are read, and that they run as GitHub runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from job_engine.errors import AssignmentError
from job_engine.grading.contracts.classroom import FILES, document
from job_engine.grading.contracts.recognise import bundle_of
from tests.support.classroom import Harness, harness_in

GRADER: dict[str, Any] = {"uses": "x/autograding-command-grader@v1", "with": {"command": "new"}}
RUNNER: dict[str, Any] = {"uses": "education/autograding@v1"}


def named(name: str) -> dict[str, Any]:
    """Return a step of a grader whose command ends well."""
    return {**GRADER, "with": {"test-name": name, "command": "true"}}


def workflow(**jobs: Any) -> bytes:
    """Return a workflow of jobs."""
    return json.dumps({"jobs": jobs}).encode()


def workflow_tests(text: bytes) -> list[dict[str, Any]]:
    """Return the tests of a repository that has a workflow and nothing else."""
    tests: list[dict[str, Any]] = document((FILES[1],), lambda _: text)["classroom"]["tests"]
    return tests


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Harness:
    """Return what runs the harness on tests."""
    return harness_in(tmp_path, monkeypatch)


@pytest.mark.parametrize("name", ["classroom.yml", "autograding.yaml"])
def test_a_repository_is_taken_by_its_workflow(tmp_path: Path, name: str) -> None:
    place = tmp_path / ".github" / "workflows"
    place.mkdir(parents=True)
    step = {"uses": "x/autograding-command-grader@v1", "with": {"command": "true"}}
    (place / name).write_text(json.dumps({"jobs": {"a": {"steps": [step]}}}))
    with bundle_of(tmp_path) as bundle:
        assert f"tests/.github/workflows/{name}" in bundle.files


def test_a_workflow_is_read_step_by_step() -> None:
    text = b"""
on: [push]
jobs:
  run-autograding-tests:
    runs-on: ubuntu-latest
    steps:
    - uses: actions/checkout@v4
    - run: make
    - name: Shout
      id: shout
      uses: classroom-resources/autograding-io-grader@v1
      with: {test-name: Shout Test, command: ./shout, input: ' hello ', expected-output: HELLO,
             comparison-method: contains, timeout: 1, max-score: 10}
    - uses: education/autograding-command-grader@v1
      id: second
      with: {setup-command: bundle install, command: rspec}
    - uses: education/autograding-python-grader@v1
      with: {max-score: '30', timeout: '15'}
    - uses: classroom-resources/autograding-grading-reporter@v1
"""
    assert workflow_tests(text) == [
        {
            "timeout": 1,
            "name": "Shout Test",
            "before": [{"run": "make"}],
            "run": "./shout",
            "input": "hello",
            "output": "HELLO",
            "comparison": "included",
            "points": 10,
        },
        {
            "timeout": 10,
            "name": "second",
            "setup": "bundle install",
            "run": "rspec",
            "comparison": "included",
        },
        {
            "timeout": "15",
            "name": "Test",
            "points": "30",
            "pytest": True,
            "comparison": "included",
        },
    ]


def test_steps_have_what_the_workflow_says_of_them() -> None:
    text = b"""
env: {A: 1, B: two}
defaults: {run: {working-directory: ./app}}
jobs:
  a:
    env: {B: '${{ env.A }}'}
    steps:
    - {run: 'cd ${{ github.workspace }}/x ${{ github.ref }}', continue-on-error: true}
    - {run: upload, if: failure()}
    - {run: 'print(1)', shell: python, working-directory: '${{ github.workspace }}', env: {C: true}}
    - {run: cat, shell: 'bash -l {0}'}
    - uses: me/autograding-command-grader@main
      with: {test-name: t, command: 'ls ${{ github.workspace }}'}
    - {run: after}
"""
    [test] = workflow_tests(text)
    assert test["env"] == {"A": "1", "B": "1"}
    assert test["run"] == "ls ${{ github.workspace }}"
    assert test["before"] == [
        {
            "run": "cd ${{ github.workspace }}/x ",
            "directory": "app",
            "may_fail": True,
        },
        {"run": "print(1)", "shell": "python3", "env": {"C": "true"}, "directory": "."},
        {"run": "cat", "shell": "bash -l", "directory": "app"},
    ]


def test_steps_run_as_their_conditions_say() -> None:
    steps: list[dict[str, Any]] = [
        {"run": "yes", "if": True},
        {"run": "no", "if": False},
        {"run": "success", "if": "${{ success() }}"},
        {"run": "always", "if": "Always()"},
        {"run": "failure", "if": "failure()"},
        GRADER,
        {"uses": "x/autograding-jest-grader@v1", "if": False},
        {**GRADER, "if": "${{ !cancelled() }}"},
        {"run": "schedule", "if": "github.event_name == 'schedule'"},
    ]
    # Classroom's own workflow has this condition.
    job = {"if": "github.actor != 'github-classroom[bot]'", "steps": steps}
    first, second = workflow_tests(workflow(a=job))
    assert [(step["run"], step.get("always", False)) for step in first["before"]] == [
        ("yes", False),
        ("success", False),
        ("always", True),
    ]
    assert (first.get("always", False), second["always"]) == (False, True)
    with pytest.raises(AssignmentError, match=r"'if: github.event_name == 'push'' at 'make'"):
        workflow_tests(workflow(a={"steps": [{"run": "make", "if": "github.event_name == 'push'"},
                                             GRADER]}))  # fmt: skip
    with pytest.raises(AssignmentError, match="whether that holds"):
        workflow_tests(workflow(a={"if": "github.ref == 'x'", "steps": [GRADER]}))


def test_only_jobs_with_tests_run_and_each_begins_anew(harness: Harness) -> None:
    other = {"steps": [{"run": "exit 1", "if": "github.ref == 'x'"}, {"run": "exit 1"}]}
    first = {"steps": [{"run": "echo A=1 >>$GITHUB_ENV"}, {"run": "exit 1"}, named("first")]}
    always = {**named("always"), "if": "always()"}
    late = {"run": "exit 1"}
    second = {"steps": [{"run": "test -z $A"}, named("second"), late, named("late"), always]}
    off = {"if": False, "steps": [named("off")]}
    text = workflow(lint=other, a=first, deploy=other, off=off, b=second)
    found = harness(workflow_tests(text))
    assert {name: test["score"] for name, test in found.items() if name} == {
        "first": 0,
        "second": 1,
        "late": 0,
        "always": 1,
    }


def test_expressions_are_replaced_in_the_text(harness: Harness, tmp_path: Path) -> None:
    text = b"""
env: {WANT: hello, D: '${{ github.workspace }}/app'}
jobs:
  a:
    env: {QUOTE: "it's", COUNT: 0, POINTS: 3}
    steps:
    - {run: 'test $COUNT = 0 && mkdir app && printf "LATE=late\\nCOUNT=5\\n" >>$GITHUB_ENV'}
    - {run: test $COUNT = 5}
    - {run: "test $COUNT = ${{ env.COUNT }}", env: {COUNT: '6'}}
    - {run: pwd >where, working-directory: '${{ env.D }}'}
    - {run: "open('p', 'w').write('${{ github.workspace }}')", shell: python}
    - uses: x/autograding-io-grader@v1
      env: {OWN: own}
      with:
        test-name: io
        command: echo "${{ env.WANT }} ${{env.QUOTE}} ${{ env['OWN'] }} '${{ env.LATE }}'"
        expected-output: "${{ env.WANT }} it's own '${{ env.LATE }}'"
        comparison-method: exact
        max-score: ${{ env.POINTS }}
    - uses: x/autograding-command-grader@v1
      with:
        test-name: where
        command: cat app/where p; echo '${{ env.NONE }} ${{ env.D }} ${{ env.COUNT }}'
"""
    found = harness(workflow_tests(text))
    assert found["io"]["output"] == "hello it's own 'late'"
    assert found["io"]["score"] == 3
    student = str(tmp_path / "student")
    assert found["where"]["output"] == f"{student}/app\n{student} {student}/app 5"


def test_which_file_has_the_tests() -> None:
    old = json.dumps({"tests": [{"name": "old", "run": "old"}]}).encode()
    json_file, usual, named = FILES[0], FILES[1], ".github/workflows/grade.yml"

    def found(**steps: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
        files = {json_file: old} if "json" in steps else {}
        for key, name in (("usual", usual), ("named", named)):
            if key in steps:
                files[name] = json.dumps({"jobs": {"a": {"steps": steps[key]}}}).encode()
        tests = document(tuple(files), lambda name: files[name])["classroom"]["tests"]
        return [{key: test[key] for key in ("run", "before") if key in test} for test in tests]

    assert found(json=None, usual=[GRADER]) == [{"run": "new"}]
    assert found(json=None, usual=[{"run": "make"}, RUNNER, {"run": "after"}]) == [
        {"run": "old", "before": [{"run": "make"}]}
    ]
    assert found(json=None, usual=[RUNNER], named=[GRADER]) == [{"run": "new"}]
    assert found(named=[GRADER]) == [{"run": "new"}]
    assert found(json=None, named=[{"run": "deploy"}]) == [{"run": "old"}]
    with pytest.raises(AssignmentError, match="has no test"):
        found(usual=[{"run": "make"}])
    with pytest.raises(AssignmentError, match="No workflow"):
        found(named=[{"run": "make"}])


def test_nothing_that_a_workflow_grades_with_is_left_out_unsaid() -> None:
    unknown = {"uses": "x/autograding-jest-grader@v1"}
    json_file, usual, named = FILES[0], FILES[1], ".github/workflows/grade.yml"
    old = json.dumps({"tests": [{"name": "old", "run": "old"}]}).encode()
    bad, good = (workflow(a={"steps": [step]}) for step in (unknown, GRADER))
    unreadable = b"jobs: {"
    mixed = workflow(a={"steps": [GRADER]}, b={"steps": [RUNNER]})
    for files, why in (
        ({usual: bad, json_file: old}, "autograding-jest-grader, which is not known"),
        ({named: bad}, "autograding-jest-grader"),
        ({usual: good, named: bad}, "autograding-jest-grader"),
        ({usual: unreadable, json_file: old}, r"classroom\.yml, line 1"),
        ({usual: mixed}, "Keep one of the two"),
        ({usual: mixed, json_file: old}, "Keep one of the two"),
    ):
        with pytest.raises(AssignmentError, match=why):
            document(tuple(files), files.__getitem__)
    # A file that another tool reads.
    files = {named: unreadable, json_file: old}
    assert document(tuple(files), files.__getitem__)["classroom"]["tests"][0]["run"] == "old"
