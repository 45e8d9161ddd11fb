"""The script that lays out an Autolab grader beside a submission."""

from __future__ import annotations

import subprocess
from pathlib import Path

from job_engine.grading.contracts.source import script


def test_nothing_of_a_submission_is_in_the_way_of_the_grader(tmp_path: Path) -> None:
    """Neither directories, nor links to other files of the grader."""
    bundle, submission = tmp_path / "bundle", tmp_path / "submission"
    (bundle / "lib").mkdir(parents=True)
    (bundle / "Makefile").write_text(
        "all:\n\t@cat lib/part.txt lib/own.txt expected.txt data.tar\n"
    )
    for name in ("lib/part.txt", "expected.txt", "data.tar"):
        (bundle / name).write_text(f"{name} of the course\n")
    (submission / "data.tar" / "deep").mkdir(parents=True)
    (submission / "lib").mkdir()
    (submission / "lib" / "own.txt").write_text("handed in\n")
    (submission / "lib" / "part.txt").symlink_to("own.txt")
    (submission / "Makefile").symlink_to("expected.txt")
    text = script("autolab_run.sh")
    for place in (bundle, submission):
        text = text.replace(f"/mnt/{place.name}", str(place))
    done = subprocess.run(["sh", "-c", text, "make", ""], capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "lib/part.txt of the course",
        "handed in",
        "expected.txt of the course",
        "data.tar of the course",
    ]
