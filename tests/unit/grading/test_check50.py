"""check50 problems: what tells them, and what its output makes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from job_engine.errors import AssignmentError
from job_engine.grading.contracts.recognise import bundle_of
from job_engine.grading.contracts.scripts import check50

CHECK = "check50:\n  files:\n    - !require hello.c\n  checks: __init__.py\n"
RESULTS = [
    {"name": "a", "description": "it is there", "passed": True, "log": ["looking"], "cause": None},
    {
        "name": "b",
        "description": "it compiles",
        "passed": False,
        "log": ["running clang"],
        "cause": {"rationale": "code failed to compile", "help": "read the error"},
    },
    {"name": "c", "description": None, "passed": None, "log": [], "cause": {"rationale": "later"}},
]


def test_a_problem_with_checks_is_an_assignment(tmp_path: Path) -> None:
    problem = tmp_path / "hello"
    problem.mkdir()
    (problem / ".cs50.yml").write_text(CHECK)
    (problem / "__init__.py").write_text("import check50\n")
    with bundle_of(problem) as bundle:
        assert {"tests/.cs50.yml", "tests/__init__.py"} <= set(bundle.files)
    (problem / ".cs50.yml").write_text("submit50:\n  files: []\n")
    with pytest.raises(AssignmentError, match="no section check50"), bundle_of(problem):
        pass


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the harness with a stand-in for check50, which is a large package of its own."""

    def start(found: object, last: str = "exit 1") -> tuple[int, list[dict[str, Any]]]:
        program = tmp_path / "bin" / "check50"
        program.parent.mkdir()
        text = f"#!/bin/sh\ncat >\"$5\" <<'EOF'\n{json.dumps(found)}\nEOF\n{last}\n"
        program.write_text(text)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        (tmp_path / "checks").mkdir()
        results = tmp_path / "tests.jsonl"
        settings = {"bundle": str(tmp_path / "checks"), "results": str(results)}
        (tmp_path / "settings.json").write_text(json.dumps(settings))
        code = check50.main(str(tmp_path / "settings.json"))
        lines = results.read_text().splitlines() if results.exists() else []
        return code, [json.loads(line) for line in lines]

    return start


def test_each_check_is_worth_a_point(run: Any) -> None:
    code, tests = run({"slug": "x", "results": RESULTS})
    assert code == 0
    assert [(test["name"], test["score"]) for test in tests] == [
        ("it is there", 1),
        ("it compiles", 0),
        ("c", 0),
    ]
    assert tests[1]["output"] == "code failed to compile\nread the error\nrunning clang"


def test_files_that_are_missing_are_the_students(run: Any) -> None:
    error = {"type": "MissingFilesError", "value": "You seem to be missing hello.c"}
    code, (test,) = run({"error": error})
    assert (code, test["score"], test["output"]) == (0, 0, error["value"])


@pytest.mark.parametrize(
    ("found", "last"),
    [
        ({"error": {"type": "BrokenProcessPool", "value": "a process was ended"}}, "exit 1"),
        ({}, "kill -9 $$"),
        ({"results": RESULTS}, "kill -9 $$"),
    ],
)
def test_a_submission_that_ends_its_checks_has_no_points(
    run: Any, found: object, last: str
) -> None:
    code, (test,) = run(found, last)
    assert (code, test["score"]) == (0, 0)
    assert "ended" in test["output"]


@pytest.mark.parametrize("found", [{"error": {"type": "NameError", "value": "x"}}, {}, {"a": 1}])
def test_checks_that_cannot_run_are_the_assignments(run: Any, found: object) -> None:
    assert run(found) == (3, [])


def test_without_check50_the_image_is_at_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "settings.json").write_text("{}")
    assert check50.main(str(tmp_path / "settings.json")) == 127
    assert "check50: command not found" in capsys.readouterr().err
