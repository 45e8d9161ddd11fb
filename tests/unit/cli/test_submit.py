"""How a command ends that waited for a job."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from job_engine.cli.app import app
from job_engine.cli.exits import JOB_FAILED, LOST_POINTS, OK, UNREACHABLE, USAGE
from job_engine.cli.submit import archive_of, exit_code
from job_engine.cli.watch import step_of
from job_engine.grading.archive import unpack
from job_engine.grading.results import Outcome, Results, TestResult
from job_engine.grading.results.model import Receipt, Status

runner = CliRunner()
RECEIPT = Receipt(
    assignment="sha256:0",
    assignment_name="a",
    submission="sha256:1",
    engine="0",
    sandbox="docker",
    forgeable=False,
)


def graded(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "outcome": Outcome.GRADED,
        "message": "",
        "score": 2.0,
        "max_score": 2.0,
        "tests": [TestResult(name="t", status=Status.PASSED)],
        "receipt": RECEIPT,
        **changes,
    }
    output = Results(**fields).model_dump_json()
    return {"action": "grade", "state": "SUCCESS", "output": output}


@pytest.mark.parametrize(
    ("job", "code"),
    [
        ({"action": "noop", "state": "SUCCESS"}, OK),
        ({"action": "noop", "state": "FAILED"}, JOB_FAILED),
        ({"action": "grade", "state": "CANCELED"}, JOB_FAILED),
        (graded(), OK),
        (graded(max_score=None), OK),
        (graded(score=1.0), LOST_POINTS),
        (graded(score=None), LOST_POINTS),
        (graded(tests=[TestResult(name="t", status=Status.FAILED)]), LOST_POINTS),
        (graded(outcome=Outcome.BUILD_FAILED, score=0.0), LOST_POINTS),
        (graded(outcome=Outcome.LIMIT, score=0.0, max_score=None), LOST_POINTS),
    ],
)
def test_the_exit_code_tells_the_outcome(job: dict[str, Any], code: int) -> None:
    assert exit_code(job) == code


def test_no_engine_is_told_apart_from_bad_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_ENGINE_API_URL", "http://127.0.0.1:1")
    result = runner.invoke(app, ["submit", ".", "--assignment", "a"])
    assert result.exit_code == UNREACHABLE
    assert "Start one with `job-engine up`" in result.output
    assert runner.invoke(app, ["submit"]).exit_code == USAGE


def test_the_exit_codes_are_in_the_help() -> None:
    help_ = " ".join(runner.invoke(app, ["submit", "--help"]).output.split())
    assert "0 full score; 1 points or tests lost; 2 wrong usage" in help_


def test_a_step_is_one_harmless_line() -> None:
    job = {"state": "RUNNING", "status-message": "build: \x1b[2Jrunning\nmore"}
    assert step_of(job) == "build: \N{REPLACEMENT CHARACTER}[2Jrunning"
    assert step_of({"state": "QUEUED"}) == "waiting for an executor"


def test_a_single_file_is_packed_and_an_archive_is_not(tmp_path: Path) -> None:
    alone = tmp_path / "fib.cpp"
    alone.write_text("int main(void) {}\n")
    with archive_of(alone) as archive, archive.open("rb") as packed, unpack(packed) as files:
        assert files.files == ("fib.cpp",)
    with zipfile.ZipFile(tmp_path / "work.zip", "w") as made:
        made.write(alone, "fib.cpp")
    with archive_of(tmp_path / "work.zip") as archive:
        assert archive == tmp_path / "work.zip"
