"""Bundles of other systems: what they are recognised by, and what their graders are told."""

from __future__ import annotations

import json
import tarfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from job_engine.errors import AssignmentError
from job_engine.grading.assignment import Assignment
from job_engine.grading.contracts.recognise import bundle_of
from job_engine.grading.contracts.told import Told, engine_files
from job_engine.grading.flavours import BUILT_IN
from job_engine.grading.policy import load_assignment
from job_engine.grading.submission import GradePayload
from job_engine.settings import SandboxSettings

GRANTED = SandboxSettings(allow_profiles=["own-root"])
CREATED = datetime(2026, 3, 1, 12, tzinfo=UTC)


def gradescope(directory: Path) -> Path:
    directory.mkdir()
    for name in ("setup.sh", "run_autograder", "tests.py", "assets/data.txt"):
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text("true\n")
    return directory


def members(source: Path, name: str | None = None) -> dict[str, bytes]:
    with bundle_of(source, name) as bundle, tarfile.open(fileobj=bundle.stream) as tar:
        files = {info.name: tar.extractfile(info) for info in tar if info.isreg()}
        return {name: file.read() for name, file in files.items() if file is not None}


def parsed(source: Path, name: str | None = None) -> Assignment:
    return load_assignment(members(source, name)["assignment.yaml"], BUILT_IN, GRANTED)


def metadata(payload: dict[str, Any]) -> dict[str, Any]:
    text = b"{name: hw, contract: gradescope, results: {max_score: 12.5}}"
    told = Told(
        payload=GradePayload.model_validate(
            {"assignment": "hw", "submission": {"files": {"a": "x"}}, **payload}
        ),
        assignment=load_assignment(text, BUILT_IN, GRANTED),
        created=CREATED,
    )
    found: dict[str, Any] = json.loads(engine_files(told)["submission_metadata.json"])
    return found


def test_a_gradescope_bundle_is_packed_whole_below_tests(tmp_path: Path) -> None:
    source = gradescope(tmp_path / "HW 1 (final)")
    (source / "solutions").mkdir()
    (source / "solutions" / "model.py").write_text("secret")
    found = members(source)
    assert set(found) == {
        "assignment.yaml",
        "tests/setup.sh",
        "tests/run_autograder",
        "tests/tests.py",
        "tests/assets/data.txt",
    }
    assignment = parsed(source)
    assert (assignment.name, assignment.title) == ("hw-1-final", "HW 1 (final)")
    assert assignment.limits.memory_bytes == 768 * 2**20
    assert parsed(source, "hw1").name == "hw1"


@pytest.mark.parametrize("top", ["", "folder/"])
def test_a_zip_is_the_same_with_or_without_a_folder_around_it(tmp_path: Path, top: str) -> None:
    source = gradescope(tmp_path / "hw")
    packed = tmp_path / "other.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for file in source.rglob("*"):
            if file.is_file():
                archive.write(file, f"{top}{file.relative_to(source)}")
        if not top:
            archive.writestr("__MACOSX/._setup.sh", "x")
    (tmp_path / "other.yaml").write_text("name: named\nlimits: {cpus: 1.5}\n")
    assert {*members(packed)} == {*members(source)}
    assignment = parsed(packed)
    assert (assignment.name, assignment.limits.cpus) == ("named", 1.5)
    assert assignment.limits.wall_time_s == 600


def test_what_is_nothing_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "setup.sh").write_text("true\n")
    with pytest.raises(AssignmentError, match=r"assignment\.yaml.*run_autograder"):
        members(tmp_path)
    with pytest.raises(AssignmentError, match="no directory and no archive"):
        members(tmp_path / "absent")


def test_solutions_of_our_own_kind_are_left_out_too(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "run.sh").write_text("true\n")
    (tmp_path / "solutions").mkdir()
    (tmp_path / "solutions" / "model.py").write_text("secret")
    text = "name: hw\nphases: {test: sh /mnt/tests/run.sh}\nresults: {format: stdout}\n"
    (tmp_path / "assignment.yaml").write_text(text)
    assert members(tmp_path) == {"assignment.yaml": text.encode(), "tests/run.sh": b"true\n"}


def test_own_root_is_refused_by_line_unless_granted() -> None:
    text = b"name: hw\ncontract: gradescope\n"
    with pytest.raises(AssignmentError, match=r"phases\.test\.profile.*allow_profiles"):
        load_assignment(text, BUILT_IN, SandboxSettings())


@pytest.mark.parametrize("key", ["image", "phases: {test: {image"])
def test_no_assignment_runs_from_anothers_setup(key: str) -> None:
    closing = "}}" if "{" in key else ""
    text = f"name: hw\ncontract: gradescope\n{key}: 'job-engine-root:abc'{closing}\n"
    with pytest.raises(AssignmentError, match=r"no image's name may begin"):
        load_assignment(text.encode(), BUILT_IN, GRANTED)


def test_metadata_has_every_field_without_being_told_any() -> None:
    found = metadata({})
    assert found == metadata({})
    assert set(found) == {
        *("id", "created_at", "submission_method", "assignment", "users", "previous_submissions"),
    }
    assert found["created_at"] == "2026-03-01T12:00:00.000000+00:00"
    assert found["assignment"] | {"id": 0} == {
        "id": 0,
        "course_id": 1,
        "title": "hw",
        "release_date": "2026-03-01T12:00:00.000000+00:00",
        "due_date": "2026-03-08T12:00:00.000000+00:00",
        "late_due_date": None,
        "group_submission": False,
        "group_size": None,
        "total_points": "12.5",
        "outline": [],
    }
    [user] = found["users"]
    assert {*user} == {"id", "email", "name", "sid", "assignment"}
    assert user["assignment"]["due_date"] == found["assignment"]["due_date"]


def test_metadata_takes_what_it_is_told() -> None:
    late = "2026-03-05T00:00:00Z"
    found = metadata(
        {
            "student": "ann@example.org",
            "due": "2026-02-28T23:59:00",
            "metadata": {
                "id": 7,
                "created_at": "2026-03-01T13:00:00+01:00",
                "assignment": {"late_due_date": late, "group_submission": True},
                "users": [{"sid": "s1"}, {"name": "Bea", "extra": [1]}],
                "previous_submissions": [{"score": "3.0"}],
            },
        }
    )
    assert (found["id"], found["created_at"]) == (7, "2026-03-01T13:00:00.000000+01:00")
    assert found["assignment"]["due_date"] == "2026-02-28T23:59:00.000000+00:00"
    assert found["assignment"]["late_due_date"] == "2026-03-05T00:00:00.000000+00:00"
    ann, bea = found["users"]
    assert (ann["email"], ann["sid"]) == ("ann@example.org", "s1")
    assert (bea["name"], bea["extra"]) == ("Bea", [1])
    assert bea["assignment"]["late_due_date"] == found["assignment"]["late_due_date"]
    assert found["previous_submissions"] == [{"score": "3.0"}]
