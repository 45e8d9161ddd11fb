"""Bundles of other systems: what they are recognised by, and what their graders are told."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from job_engine.errors import AssignmentError, SubmissionError
from job_engine.grading.archive import ArchiveLimits, Unpacked
from job_engine.grading.assignment import Assignment
from job_engine.grading.contracts.grader_input import GraderInput, engine_files, pack_files
from job_engine.grading.contracts.recognise import bundle_of
from job_engine.grading.flavours import BUILT_IN
from job_engine.grading.policy import load_assignment
from job_engine.grading.submission import GradePayload, Submission, pack_inline
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
    grader_input = GraderInput(
        payload=GradePayload.model_validate(
            {"assignment": "hw", "submission": {"files": {"a": "x"}}, **payload}
        ),
        assignment=load_assignment(text, BUILT_IN, GRANTED),
        created=CREATED,
    )
    found: dict[str, Any] = json.loads(engine_files(grader_input)["submission_metadata.json"])
    return found


def test_a_gradescope_bundle_is_packed_whole_below_tests(tmp_path: Path) -> None:
    source = gradescope(tmp_path / "HW 1 (final)")
    (source / "solutions" / "model").mkdir(parents=True)
    (source / "solutions" / "model" / "a.py").write_text("secret")
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


def test_solutions_that_a_foreign_grader_reads_stay(tmp_path: Path) -> None:
    source = gradescope(tmp_path / "hw")
    (source / "solutions").mkdir()
    (source / "solutions" / "1.out").write_text("expected")
    assert members(source)["tests/solutions/1.out"] == b"expected"


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


def question(tmp_path: Path, **options: Any) -> Path:
    course = tmp_path / "course"
    place = course / "questions" / "topic" / "fib"
    (place / "tests").mkdir(parents=True)
    (place / "tests" / "run.sh").write_text("true\n")
    (course / "infoCourse.json").write_text("{}")
    (course / "serverFilesCourse" / "lib").mkdir(parents=True)
    (course / "serverFilesCourse" / "lib" / "a.py").write_text("a\n")
    (course / "serverFilesCourse" / "b.py").write_text("b\n")
    given = {"image": "prairielearn/grader-python:1", **options}
    info = {"title": "Fib", "externalGradingOptions": given}
    (place / "info.json").write_text(json.dumps(info))
    return place


def test_a_question_brings_its_tests_and_the_courses_files(tmp_path: Path) -> None:
    place = question(
        tmp_path,
        serverFilesCourse=["lib", "b.py"],
        timeout=900,
        environment={"A": "1", "LANG": None},
    )
    found = members(place)
    assert set(found) == {
        "assignment.yaml",
        "tests/info.json",
        "tests/tests/run.sh",
        "tests/serverFilesCourse/lib/a.py",
        "tests/serverFilesCourse/b.py",
    }
    mapped = GRANTED.model_copy(update={"image_map": {"prairielearn/grader-python": "ours"}})
    assignment = load_assignment(found["assignment.yaml"], BUILT_IN, mapped)
    assert (assignment.name, assignment.title, assignment.image) == ("fib", "Fib", "ours")
    assert assignment.limits.wall_time_s == 600
    assert assignment.limits.memory_bytes == 2 * 2**30
    assert assignment.phases.test.argv()[-3:] == ("LANG", "--", "/python_autograder/run.sh")
    assert assignment.phases.test.env == {"A": "1"}


def test_a_question_may_leave_the_entry_point_to_an_image_that_is_known(tmp_path: Path) -> None:
    command = parsed(question(tmp_path, image="prairielearn/grader-c")).phases.test.argv()
    assert command[-1] == "/cgrader/entrypoint.sh"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"enableNetworking": True}, r"line \d+: prairielearn: enableNetworking: .*no network"),
        ({"image": "own", "entrypoint": None}, "entrypoint"),
        ({"serverFilesCourse": ["../questions"]}, "serverFilesCourse"),
        ({"serverFilesCourse": ["absent"]}, "serverFilesCourse"),
        ({"environment": {"A B": "1"}}, "names of variables"),
    ],
)
def test_invalid_options_of_a_question_are_refused(
    tmp_path: Path, options: dict[str, Any], why: str
) -> None:
    with pytest.raises(AssignmentError, match=why):
        parsed(question(tmp_path, **options))


def test_a_question_that_is_not_graded_externally_is_refused(tmp_path: Path) -> None:
    (tmp_path / "info.json").write_text('{"title": "x"}')
    with pytest.raises(AssignmentError, match="externalGradingOptions"):
        members(tmp_path)
    (tmp_path / "info.json").write_text("[]")
    with pytest.raises(AssignmentError, match="cannot be read"):
        members(tmp_path)


def question_of(workspace: Unpacked) -> dict[str, Any]:
    text = b"{name: q, contract: prairielearn, prairielearn: {image: i, entrypoint: /run -x}}"
    payload = GradePayload.model_validate(
        {
            "assignment": "q",
            "submission": {"files": {"a": "x"}},
            "metadata": {"params": {"n": 3}, "variant_seed": "1z"},
        }
    )
    grader_input = GraderInput(
        payload=payload,
        assignment=load_assignment(text, BUILT_IN, GRANTED),
        created=CREATED,
        workspace=workspace,
    )
    found: dict[str, Any] = json.loads(engine_files(grader_input)["data.json"])
    return found


def question_told(tmp_path: Path, files: dict[str, Any]) -> dict[str, Any]:
    submission = Submission.model_validate({"files": files})
    assert submission.files is not None
    with pack_inline(submission.files, ArchiveLimits(), tmp_path) as workspace:
        found = question_of(workspace)
        assert workspace.stream.tell() == 0
        return found


def test_metadata_take_no_more_than_the_graders_tree_has(tmp_path: Path) -> None:
    """Deep ones and long names neither: what does not fit would be a fault of the platform."""
    nested: list[Any] = [1] * 1_000
    for _ in range(200):
        nested = [nested]
    told = metadata({"metadata": {"nested": nested}})
    assert len(json.dumps(told)) < 10_000
    names = tuple(f"{number}/{'n' * 200}" for number in range(10_000))
    with Unpacked(
        stream=io.BytesIO(), files=names, size_bytes=0, links=0, directories=0, digest=""
    ) as crowd:
        assert question_of(crowd)["submitted_answers"]["_files"] == []
    with pytest.raises(SubmissionError, match="at most 10"):
        pack_files({"data.json": bytes(11)}, 10)


def test_data_json_contains_the_submission(tmp_path: Path) -> None:
    data = question_told(tmp_path, {"a.py": "x", "b": {"base64": "AAA="}})
    assert data["submitted_answers"] == {
        "_files": [{"name": "a.py", "contents": "eA=="}, {"name": "b", "contents": "AAA="}]
    }
    assert (data["params"], data["variant_seed"], data["gradable"]) == ({"n": 3}, 71, True)
    assert {*data} >= {"correct_answers", "format_errors", "partial_scores", "feedback", "options"}


def test_large_files_are_told_of_in_no_answer(tmp_path: Path) -> None:
    data = question_told(tmp_path, {"a.py": "x", "b": "y" * 2 * 2**20})
    assert data["submitted_answers"] == {"_files": []}


def test_a_lab_is_told_by_its_yml(tmp_path: Path) -> None:
    source = tmp_path / "hello"
    source.mkdir()
    (source / "autograde.tar").write_bytes(b"x")
    (source / "autograde-Makefile").write_text("all:\n")
    assert parsed(source).results.weights == {}
    (source / ".travis.yml").write_text("x: &a 1\ny: *a\n")
    (source / "hello.yml").write_text(
        "general: {handin_filename: hello.c, display_name: Hello Lab}\n"
        "problems: [{name: One, max_score: 10.0}, {name: Two, max_score: 5}]\n"
        "autograder: {autograde_timeout: 40}\n"
    )
    assignment = parsed(source)
    assert assignment.title == "Hello Lab"
    assert assignment.results.weights == {"One": 10, "Two": 5}
    assert assignment.limits.wall_time_s == 40
    assert assignment.phases.test.argv()[-1] == "hello.c"


def test_a_bundle_whose_image_has_everything_needs_no_setup(tmp_path: Path) -> None:
    source = gradescope(tmp_path / "hw")
    (source / "setup.sh").unlink()
    assert parsed(source).contract == "gradescope"


def test_an_unknown_format_names_the_missing_files(tmp_path: Path) -> None:
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


def test_a_lab_brings_what_its_autograder_is_given_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "fib"
    (source / "handin").mkdir(parents=True)
    for name in ("autograde.tar", "autograde-Makefile", "fib.cpp", "settings.json", "handin/ann"):
        (source / name).write_text("x")
    assert {*members(source)} == {
        "assignment.yaml",
        "tests/autograde.tar",
        "tests/autograde-Makefile",
    }
    (source / "fib.yml").write_text(
        "general: {handin_filename: fib.cpp}\nproblems: [{name: One, max_score: 10.0}]\n"
    )
    (source / "assignment.yaml").write_text("autolab: {files: [settings.json]}\n")
    assert "tests/settings.json" in members(source)
    # What the lab says stays, where the course does not say it otherwise.
    assert parsed(source).results.weights == {"One": 10}


@pytest.mark.parametrize(
    ("makefile", "handin"),
    [
        ("\ttar xvf autograde.tar\n\ttar xvf handin.tgz\n", "handin.tgz"),
        ("\ttar xf autograde.tar\n\tunzip -q submission.zip -d x\n", "submission.zip"),
        ("\ttar xf autograde.tar\n\tcp fib.cpp lab\n", ""),
        ("\ttar xf one.tar\n\ttar xf two.tar\n", ""),
    ],
)
def test_a_lab_without_a_yml_is_told_by_its_makefile(
    tmp_path: Path, makefile: str, handin: str
) -> None:
    (tmp_path / "autograde.tar").write_bytes(b"x")
    (tmp_path / "autograde-Makefile").write_text(f"all:\n{makefile}")
    assert parsed(tmp_path).phases.test.argv()[-1] == handin


def test_a_section_of_a_question_may_be_said_otherwise(tmp_path: Path) -> None:
    place = question(tmp_path, enableNetworking=True, entrypoint="/grade/tests/run.sh")
    (place / "assignment.yaml").write_text("prairielearn: {enableNetworking: false}\n")
    assert parsed(place).phases.test.argv()[-1] == "/grade/tests/run.sh"


@pytest.mark.parametrize("said", ["contract: phases\n", ""])
def test_an_assignment_of_ours_is_one_whatever_else_is_there(tmp_path: Path, said: str) -> None:
    for name in ("tests/run.sh", ".github/workflows/classroom.yml", "info.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("true\n")
    text = f"name: hw\n{said}phases: {{test: 'true'}}\nresults: {{format: stdout}}\n"
    (tmp_path / "assignment.yaml").write_text(text)
    assert parsed(tmp_path).contract == "phases"


@pytest.mark.parametrize(
    ("file", "why"),
    [
        ("autograde-Makefile", r"autograde\.tar is missing.*Make it first"),
        ("otter_config.json", "otter generate"),
        (".guides/settings", "Codio"),
        ("deep/er/run_autograder", "Did you mean .*deep/er"),
        ("data/01.in", "contract: cases"),
        ("notes.txt", r"docs/assignments\.md"),
    ],
)
def test_unsupported_formats_come_with_advice(tmp_path: Path, file: str, why: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("x")
    with pytest.raises(AssignmentError, match=why):
        members(tmp_path)
