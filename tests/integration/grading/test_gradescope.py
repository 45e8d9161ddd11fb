"""Gradescope bundles in the style of published ones, run as they are."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from job_engine.errors import AssignmentError
from job_engine.grading.contracts.recognise import bundle_of
from job_engine.grading.results import Outcome, Results
from job_engine.model import FinalVerdict
from job_engine.sandbox.base import Sandbox
from job_engine.settings import SandboxSettings
from tests.integration.grading.conftest import EXAMPLES, Desk, Follower

BUNDLES = Path(__file__).parent / "gradescope"


@pytest.fixture
def granted(desk: Desk, granting: tuple[Sandbox, SandboxSettings]) -> Desk:
    """A desk with that sandbox."""
    desk.sandbox, desk.policy = granting
    return desk


def grade(
    desk: Desk,
    source: Path,
    files: dict[str, str],
    follower: Follower | None = None,
    **payload: Any,
) -> Results:
    with bundle_of(source) as bundle:
        digest = desk.blobs.add(bundle.stream.read())
    desk.blobs.names[source.stem] = digest
    payload = {"assignment": digest, "submission": {"files": files}, **payload}
    return desk.grade_payload(payload, follower)


def marks(results: Results) -> tuple[float | None, float | None]:
    assert results.outcome is Outcome.GRADED, (results.message, results.phases)
    return results.score, results.max_score


def test_bundles_run_as_they_are(granted: Desk) -> None:
    rev = '#include <stdio.h>\nint main(void){char s[9];fgets(s,9,stdin);puts("cba");}\n'
    made = grade(granted, BUNDLES / "c-make", {"rev.c": rev})
    assert marks(made) == (10, 10)
    assert made.output == "ready: ready"
    assert "compiled with 0 lines" in made.phases[-1].output
    assert made.phases[-1].visibility == "visible"
    assert made.receipt.forgeable
    assert made.receipt.images["test"].startswith("kept:")
    assert marks(grade(granted, BUNDLES / "c-make", {"rev.c": "int main(void"})) == (0, 10)

    words = grade(granted, BUNDLES / "crlf", {"words.txt": "one\ntwo\nthree\n"})
    assert marks(words) == (2, None)

    squares = "echo $(($1 * $1))\n"
    java = grade(granted, BUNDLES / "java-like", {"src/hw/Main.java": squares})
    assert marks(java) == (3, 3)
    assert marks(grade(granted, BUNDLES / "java-like", {"README": "x"})) == (0, None)

    assert marks(grade(granted, BUNDLES / "r-like", {"answer.R": "mean(x)\n"})) == (1, 1)


def test_a_python_run_autograder_and_its_output(granted: Desk) -> None:
    results = grade(granted, BUNDLES / "python-run", {"main.py": "print(42)\n"})
    assert marks(results) == (1, 1)
    assert results.tests[0].output == "\x1b[31m42\x1b[0m"
    assert [entry.value for entry in results.leaderboard] == [3, "***"]
    assert results.extra_data == {"python": 3}
    printed = results.phases[-1].output
    assert "student printed: 42" in printed
    assert "to stderr" in printed


def test_a_bundle_without_a_setup_whose_results_a_script_wrote(granted: Desk) -> None:
    source = BUNDLES / "no-setup"
    right = grade(granted, source, {"answer.sh": "echo 42"})
    assert marks(right) == (1, 1), right.output
    assert right.phases[-1].output.splitlines() == [f"line {line}." for line in range(1, 51)]
    wrong = grade(granted, source, {"answer.sh": 'echo "it\'s 41"'})
    assert marks(wrong) == (0, None)
    assert (wrong.output, wrong.verdict) == ("it's 41\n", FinalVerdict.WRONG_ANSWER)


def test_a_careful_bundle_runs_students_as_a_user_of_its_own(granted: Desk) -> None:
    program = """
import getpass, os
print(getpass.getuser())
for place in ("/autograder/source/judge.py", "/autograder/results/results.json"):
    try:
        open(place, "a")
        print("wrote", place)
    except PermissionError:
        print("denied")
"""
    results = grade(granted, BUNDLES / "careful", {"solution.py": program})
    assert marks(results) == (10, 10), results.tests
    assert [test.number for test in results.tests] == ["1.1", "1.2"]
    assert results.visibility == "after_published"


def test_a_bundle_that_gives_its_directories_away(granted: Desk) -> None:
    results = grade(granted, BUNDLES / "moves", {"solution.py": "print(7)", "peek.py": ""})
    assert marks(results) == (3, 3), results.phases
    assert results.output == "submission: root, results: tester"
    assert (results.tests[0].number, results.notes) == ("1.5", [])


def test_due_dates_are_read_from_the_metadata(granted: Desk, tmp_path: Path) -> None:
    metadata = {"assignment": {"total_points": "20.0"}, "created_at": "2026-03-03T12:00:00+01:00"}
    payload: dict[str, Any] = {
        "metadata": metadata,
        "due": "2026-03-01T23:00:00+00:00",
        "student": "ann@example.org",
    }
    source = tmp_path / "late"
    shutil.copytree(BUNDLES / "late", source)
    results = grade(granted, source, {"a": "x"}, **payload)
    assert marks(results) == (16, None)
    assert results.output == "ann@example.org <ann@example.org> ann@example.org, 2 days late, try 1"
    assert results.output_format == "md"
    users = [{"name": "Bea", "email": "bea@example.org", "sid": "s7"}, {"name": "Cem"}]
    payload["metadata"] = {**metadata, "users": users, "previous_submissions": [{"score": "1.0"}]}
    results = grade(granted, source, {"a": "x"}, **payload)
    assert "Bea <bea@example.org> s7, Cem " in results.output
    assert results.output.endswith("try 2")


def test_a_setup_that_fails_is_the_assignments_fault(granted: Desk, tmp_path: Path) -> None:
    for _ in range(2):  # the second time it is remembered
        with pytest.raises(AssignmentError, match="setup_hosts") as failed:
            grade(granted, BUNDLES / "offline", {"a": "x"})
        assert "cowsay-that-is-nowhere" in failed.value.message
    source = tmp_path / "offline"
    shutil.copytree(BUNDLES / "offline", source)
    (source / "assignment.yaml").write_text("setup: {may_fail: true}\n")
    assert marks(grade(granted, source, {"a": "x"})) == (1, None)


def test_a_setup_runs_once_for_all_and_is_kept_while_there_is_room(
    granted: Desk, tmp_path: Path
) -> None:
    sources = []
    for name in ("one", "two"):
        sources.append(tmp_path / name)
        sources[-1].mkdir()
        (sources[-1] / "setup.sh").write_text(
            f"echo set up {name}\nhead -c 100000 /dev/zero >/opt/x\n"
        )
        (sources[-1] / "run_autograder").write_text(
            "#!/bin/sh\necho '{\"score\": 1}' >results/results.json\n"
        )
    one, two = sources
    followers = [granted.follower() for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        graded = [pool.submit(grade, granted, one, {"a": "x"}, by) for by in followers]
    assert [marks(future.result()) for future in graded] == [(1, None)] * 3
    assert set_up("one", followers) == 1

    granted.settings = granted.settings.model_copy(update={"kept_roots_bytes": 1})
    again = granted.follower()
    for source in (one, two, two, one):
        grade(granted, source, {"a": "x"}, again)
    # The first was there; the second took its place, and was there; then the first was made again.
    assert (set_up("one", [again]), set_up("two", [again])) == (1, 1)


def set_up(name: str, followers: list[Follower]) -> int:
    """Say how often it was made. What it printed, which may name tests, is told to staff alone."""
    found = [
        staff
        for follower in followers
        for _, data, staff in follower.events
        if data["phase"] == "setup" and f"set up {name}" in data["text"]
    ]
    assert all(found)
    assert not any(f"set up {name}" in line for follower in followers for line in follower.lines)
    return len(found)


def test_no_results_and_no_end(granted: Desk, tmp_path: Path) -> None:
    source = tmp_path / "broken"
    source.mkdir()
    (source / "setup.sh").write_text("true\n")
    (source / "run_autograder").write_text("#!/bin/bash\nbash /autograder/submission/do\n")
    (source / "assignment.yaml").write_text("title: Broken\nlimits: {wall_time_s: 3}\n")
    nothing = grade(granted, source, {"do": "echo out of luck"})
    assert nothing.outcome is Outcome.HARNESS_FAILED
    assert "out of luck" in nothing.phases[-1].output
    garbled = grade(granted, source, {"do": "echo '{]' >/autograder/results/results.json"})
    assert garbled.outcome is Outcome.HARNESS_FAILED
    late = grade(granted, source, {"do": "echo before; sleep 60"})
    assert (late.outcome, late.score, late.tests) == (Outcome.LIMIT, 0, [])
    left = grade(
        granted,
        source,
        {"do": "sleep 60 & echo '{\"score\": 1}' >/autograder/results/results.json"},
    )
    assert marks(left) == (1, None)


def test_it_needs_the_operators_grant(desk: Desk) -> None:
    with pytest.raises(AssignmentError, match="allow_profiles"):
        grade(desk, EXAMPLES / "autograders" / "gradescope-python", {"calculator.py": "x"})


def test_a_zip_is_taken_too(granted: Desk, tmp_path: Path) -> None:
    example = EXAMPLES / "autograders" / "gradescope-python"
    packed = Path(shutil.make_archive(str(tmp_path / "Calculator HW"), "zip", example))
    (tmp_path / "Calculator HW.yaml").write_text(
        "image: null\nsubmission: {files: [calculator.py]}"
    )
    model = (example / "solutions" / "model" / "calculator.py").read_text()
    results = grade(granted, packed, {"calculator.py": model})
    assert marks(results) == (7, 7)
    assert results.receipt.assignment_name == "calculator-hw"
    assert {test.visibility.value for test in results.tests} == {"visible", "after_due_date"}
