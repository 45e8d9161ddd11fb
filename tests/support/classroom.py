"""Running the harness of GitHub Classroom's tests in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from job_engine.grading.contracts.grader_input import classroom_files
from job_engine.grading.contracts.scripts.classroom import harness as classroom
from job_engine.grading.flavours import BUILT_IN
from job_engine.grading.policy import load_assignment
from job_engine.settings import SandboxSettings

Harness = Callable[..., dict[str, dict[str, Any]]]


def harness_in(place: Path, monkeypatch: pytest.MonkeyPatch) -> Harness:
    """Make the directories `course` and `student`, and go into the latter.

    Returns what runs the harness there on tests, with further keys of `classroom`. It returns
    the results by their names; the line for the whole is that of the empty name.
    """
    course, student = place / "course", place / "student"
    course.mkdir()
    student.mkdir()
    monkeypatch.chdir(student)

    def run(tests: list[dict[str, Any]], **more: Any) -> dict[str, dict[str, Any]]:
        document = {"name": "a", "contract": "classroom", "classroom": {"tests": tests, **more}}
        text = json.dumps(document).encode()
        assignment = load_assignment(text, BUILT_IN, SandboxSettings())
        settings = json.loads(classroom_files(assignment)["classroom.json"])
        results = place / "tests.jsonl"
        settings |= {"bundle": str(course), "submission": str(student), "results": str(results)}
        (place / "classroom.json").write_text(json.dumps(settings))
        assert classroom.main(str(place / "classroom.json")) == 0
        lines = [json.loads(line) for line in results.read_text().splitlines()]
        return {"": lines[0]} | {line["name"]: line for line in lines[1:]}

    return run
