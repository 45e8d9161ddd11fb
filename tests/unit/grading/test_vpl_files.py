"""Moodle VPL: what of a submission and of an activity is laid out for its scripts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from job_engine.grading.contracts.scripts.cases import activity_files
from job_engine.grading.contracts.scripts.cases.files import clear
from tests.support.vpl import encoded


def lay_out(bundle: Path) -> None:
    """Put an activity's files into the working directory."""
    bundle.mkdir(exist_ok=True)
    settings = {"bundle": str(bundle), "max_time_s": 1, "grade_min": 0, "grade_max": 100}
    activity_files.lay_out(settings)


@pytest.fixture
def student(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a submission, which is the working directory."""
    place = tmp_path / "student"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def test_what_is_handed_in_as_base64_is_decoded(
    student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity_files, "_MAX_ENCODED", 12)
    (student / "sub").mkdir()
    (student / "kept.txt").write_text("mine")
    (student / "away").symlink_to(tmp_path / "out")
    texts = {"sub/a.txt": "a", "kept.txt": "other", "away": "x", "": "x", "large": "x" * 10}
    for name, text in texts.items():
        (student / f"{name}.b64").write_text(encoded(text))
    (student / "none.b64").write_text("x")
    lay_out(tmp_path / "bundle")
    assert (student / "sub" / "a.txt").read_text() == "a"
    assert (student / "kept.txt").read_text() == "mine"
    assert not (tmp_path / "out").exists()
    assert not {"none", "large", "away"} & {path.name for path in student.iterdir()}


@pytest.mark.parametrize("text", [encoded("judges"), "x"])
@pytest.mark.parametrize("forged", ["file", "directory", "link", "encoded"])
def test_what_an_activity_has_in_base64_replaces_what_was_handed_in(
    student: Path, tmp_path: Path, forged: str, text: str
) -> None:
    (tmp_path / "bundle" / "lib").mkdir(parents=True)
    (tmp_path / "bundle" / "lib" / "Tester.class.b64").write_text(text)
    (tmp_path / "bundle" / "both.b64").write_text(encoded("no"))
    (tmp_path / "bundle" / "both").write_text("as it is")
    (tmp_path / "out").write_text("not mine")
    (student / "lib").mkdir()
    place = student / "lib" / "Tester.class"
    if forged == "file":
        place.write_text("forged")
    elif forged == "directory":
        place.mkdir()
    elif forged == "link":
        place.symlink_to(tmp_path / "out")
    else:
        place.with_name("Tester.class.b64").write_text(encoded("forged"))
    lay_out(tmp_path / "bundle")
    assert (place.read_text() if place.exists() else None) == ("judges" if text != "x" else None)
    assert (student / "both").read_text() == "as it is"
    assert (tmp_path / "out").read_text() == "not mine"


def test_links_to_files_of_the_submission_stay(student: Path, tmp_path: Path) -> None:
    (student / "data").mkdir()
    for name in ("data/mine.txt", "given.txt"):
        (student / name).write_text("")
    targets = {
        "file": "data/mine.txt",
        "directory": "data",
        "given": "given.txt",
        "here": ".",
        "loop": "loop",
        "out": str(tmp_path),
    }
    for name, target in targets.items():
        (student / name).symlink_to(target)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "given.txt").write_text("")
    lay_out(tmp_path / "bundle")
    assert {path.name for path in student.iterdir() if path.is_symlink()} == {"file", "directory"}
    told = (student / "vpl_environment.sh").read_text()
    assert "VPL_SUBFILES='file\ngiven.txt\ndata/mine.txt'" in told


def test_a_submission_may_have_a_thousand_levels(student: Path, tmp_path: Path) -> None:
    for _ in range(1500):
        os.mkdir("d")
        os.chdir("d")
    os.chdir(student)
    lay_out(tmp_path / "bundle")
    assert (student / "common_script.sh").exists()
    # Too deep for what tidies up after tests.
    clear(str(student / "d"))
