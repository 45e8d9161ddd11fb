"""The bundled samples, graded by the real parts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from job_engine.errors import Cancelled, GradingError, SubmissionError
from job_engine.grading.results import Outcome, Results
from job_engine.testing.git_server import GitServer, make_repository
from tests.integration.grading.conftest import EXAMPLES, Desk

SUBMISSIONS = EXAMPLES / "submissions"


def archive(desk: Desk, name: str) -> dict[str, object]:
    return {"archive": {"blob": desk.blobs.add_submission(SUBMISSIONS / name)}}


def statuses(results: Results) -> dict[str, str | None]:
    return {test.name: test.status for test in results.tests}


def test_a_good_c_submission_gets_full_score(desk: Desk) -> None:
    follower = desk.follower()
    results = desk.grade("c-make", archive(desk, "c-make-good"), follower)
    assert results.outcome is Outcome.GRADED
    assert (results.score, results.max_score) == (10, 10)
    assert set(statuses(results).values()) == {"passed"}
    assert [phase.name for phase in results.phases] == ["build", "test"]
    assert results.receipt.assignment == desk.blobs.names["c-make"]
    assert results.receipt.sandbox == desk.name
    assert "build: running" in follower.messages
    assert "test: running" in follower.messages
    assert follower.percents == sorted(follower.percents)
    assert any(line.startswith("build: done") for line in follower.lines)


def test_a_partial_c_submission_loses_tests(desk: Desk) -> None:
    results = desk.grade("c-make", archive(desk, "c-make-partial"))
    assert results.outcome is Outcome.GRADED
    assert (results.score, results.max_score) == (7, 10)
    assert statuses(results)["tabs and many spaces"] == "failed"


def test_a_submission_that_does_not_build_is_a_result(desk: Desk) -> None:
    results = desk.grade("c-make", archive(desk, "c-make-broken"))
    assert results.outcome is Outcome.BUILD_FAILED
    assert (results.score, results.max_score) == (0, 10)
    assert "exit code 2" in results.message
    assert "wc.c" in results.phases[0].output


@pytest.mark.parametrize(
    ("phases", "phase"),
    [
        ("{build: [no-such-compiler, main.x], test: 'true'}", "build"),
        ("{test: 'no-such-runner main.x'}", "test"),
    ],
)
def test_a_program_that_the_image_lacks_is_the_assignments_fault(
    desk: Desk, tmp_path: Path, phases: str, phase: str
) -> None:
    directory = tmp_path / "lacking"
    directory.mkdir()
    text = f"{{name: lacking, phases: {phases}, results: {{format: stdout}}}}"
    (directory / "assignment.yaml").write_text(text)
    (directory / "tests").mkdir()
    (directory / "tests" / "main.x").write_text("x")
    desk.blobs.add_assignment(directory)
    results = desk.grade("lacking", {"files": {"main.x": "x"}})
    assert (results.outcome, results.score) == (Outcome.HARNESS_FAILED, None)
    assert f"which the phase {phase} needs" in results.message


def test_a_runtime_that_the_image_lacks_is_the_assignments_fault(
    desk: Desk, tmp_path: Path
) -> None:
    directory = tmp_path / "lacking"
    (directory / "tests").mkdir(parents=True)
    for name in ("1.in", "1.out"):
        (directory / "tests" / name).write_text("x")
    text = "{name: lacking, contract: cases, cases: {program: [no-such-runtime, main.x]}}"
    (directory / "assignment.yaml").write_text(text)
    desk.blobs.add_assignment(directory)
    results = desk.grade("lacking", {"files": {"main.x": "x"}})
    assert results.outcome is Outcome.HARNESS_FAILED
    assert "has no no-such-runtime, which the phase program needs" in results.message


def test_python_submissions(desk: Desk) -> None:
    good = desk.grade("python-pytest", archive(desk, "python-pytest-good"))
    assert (good.score, good.max_score) == (10, 10), good.phases
    text = (SUBMISSIONS / "python-pytest-partial" / "stack.py").read_text()
    partial = desk.grade("python-pytest", {"files": {"stack.py": text}})
    assert (partial.score, partial.max_score) == (7, 10)
    assert statuses(partial)["an empty stack raises IndexError"] == "failed"
    assert partial.receipt.forgeable


def test_a_python_syntax_error_is_told_by_the_build(desk: Desk) -> None:
    results = desk.grade("python-pytest", {"files": {"stack.py": "def broken(:\n"}})
    assert results.outcome is Outcome.BUILD_FAILED
    assert "SyntaxError" in results.phases[0].output


def test_a_module_that_cannot_be_imported_scores_nothing(desk: Desk) -> None:
    results = desk.grade("python-pytest", {"files": {"stack.py": "raise RuntimeError('no')\n"}})
    assert results.outcome is Outcome.GRADED
    assert results.score == 0


def test_a_submission_that_ends_the_harness_is_told_to_staff(desk: Desk) -> None:
    results = desk.grade("python-pytest", {"files": {"stack.py": "import os\nos._exit(0)\n"}})
    assert results.outcome is Outcome.HARNESS_FAILED
    assert results.score is None
    assert "in its own process" in results.message


def test_a_submission_that_waits_meets_its_limit(desk: Desk, tmp_path: Path) -> None:
    text = "import time\ntime.sleep(600)\n"
    slow = tmp_path / "python-pytest"
    _copy_with(
        EXAMPLES / "assignments" / "python-pytest", slow, "wall_time_s: 20", "wall_time_s: 2"
    )
    desk.blobs.add_assignment(slow)
    results = desk.grade("python-pytest", {"files": {"stack.py": text}})
    assert results.outcome is Outcome.LIMIT
    assert results.score == 0
    assert "longer than 2 s" in results.message


def test_the_tests_are_not_there_while_the_submission_builds(desk: Desk) -> None:
    makefile = "wc:\n\tls -R /mnt; false\n"
    results = desk.grade("c-make", {"files": {"Makefile": makefile, "wc.c": "int x;\n"}})
    assert results.outcome is Outcome.BUILD_FAILED
    assert "wc.c" in results.phases[0].output
    assert "cases.json" not in results.phases[0].output


def test_a_missing_file_is_named(desk: Desk) -> None:
    with pytest.raises(SubmissionError, match=r"lacks wc\.c"):
        desk.grade("c-make", {"files": {"Makefile": "all:\n"}})


@pytest.mark.parametrize(
    ("assignment", "submission", "why"),
    [
        ("nothing", {"files": {"a": "x"}}, "There is no assignment 'nothing'"),
        ("c-make", {"archive": {"blob": f"blob/{'0' * 64}"}}, "Upload it to /api/blob"),
        ("c-make", {"files": {"../Makefile": "x"}}, "climbs"),
    ],
)
def test_bad_input_says_what_to_do(
    desk: Desk, assignment: str, submission: dict[str, object], why: str
) -> None:
    with pytest.raises(GradingError, match=why):
        desk.grade(assignment, submission)


def test_a_git_submission_is_cloned(desk: Desk, git_server: GitServer, repositories: Path) -> None:
    name = f"good-{desk.name}.git"
    commit = make_repository(SUBMISSIONS / "c-make-good", repositories / name)
    for wanted in ({"commit": commit}, {"ref": "main"}, {}):
        results = desk.grade("c-make", {"git": {"url": git_server.url(name), **wanted}})
        assert (results.score, results.max_score) == (10, 10)
        assert results.receipt.submission == commit
        assert results.phases[0].name == "clone"


@pytest.mark.parametrize(
    ("name", "what", "why"),
    [
        ("absent.git", {}, "Check that the repository exists"),
        ("there.git", {"commit": "0" * 40}, "Cannot fetch the commit 0000"),
        ("there.git", {"ref": "no-such-branch"}, "Cannot fetch 'no-such-branch'"),
    ],
)
def test_a_failed_clone_comes_with_advice(
    desk: Desk,
    git_server: GitServer,
    repositories: Path,
    name: str,
    what: dict[str, str],
    why: str,
) -> None:
    if not (repositories / "there.git").exists():
        make_repository(SUBMISSIONS / "c-make-good", repositories / "there.git")
    with pytest.raises(SubmissionError, match=why) as error:
        desk.grade("c-make", {"git": {"url": git_server.url(name), **what}})
    assert error.type is SubmissionError  # and not away: that would be tried again


def test_a_repository_that_lacks_files_says_which(
    desk: Desk, git_server: GitServer, repositories: Path
) -> None:
    name = f"lacking-{desk.name}.git"
    make_repository(SUBMISSIONS / "python-pytest-good", repositories / name)
    with pytest.raises(SubmissionError, match=r"Makefile.*wc\.c"):
        desk.grade("c-make", {"git": {"url": git_server.url(name)}})


def test_nothing_but_the_repository_is_reached(
    desk: Desk, repositories: Path, git_server: GitServer
) -> None:
    with GitServer(repositories) as other:
        with pytest.raises(SubmissionError, match="Cannot fetch"):
            desk.grade("c-make", {"git": {"url": other.url("there.git")}})
        assert other.requests == []


def test_a_private_repository_is_cloned_with_the_operators_secret(
    desk: Desk, repositories: Path, git_server: GitServer
) -> None:
    name = f"private-{desk.name}.git"
    make_repository(SUBMISSIONS / "c-make-good", repositories / name)
    git_server.users = {"robot": "s3cret"}
    try:
        secrets = desk.directory / "secrets.yaml"
        secrets.touch(mode=0o600)
        secrets.write_text(
            f"course: {{host: '{git_server.address}', username: robot, password: s3cret, "
            "plain_http: true}\n"
        )
        desk.settings = desk.settings.model_copy(update={"git_secrets_file": secrets})
        url = git_server.url(name)
        with pytest.raises(SubmissionError, match="Cannot fetch"):
            desk.grade("c-make", {"git": {"url": url}})
        results = desk.grade("c-make", {"git": {"url": url, "credential": "course"}})
        assert results.score == 10
        assert "s3cret" not in results.model_dump_json()
    finally:
        git_server.users = None


def test_a_hostile_repository_runs_nothing_in_the_clone(
    desk: Desk, repositories: Path, git_server: GitServer, tmp_path: Path
) -> None:
    """Filters, submodules and links of the repository do nothing while it is cloned."""
    work = tmp_path / "work"
    _copy_with(SUBMISSIONS / "c-make-good", work, "", "")
    (work / ".gitattributes").write_text("* filter=lfs\n")
    (work / ".gitmodules").write_text(
        '[submodule "x"]\n\tpath = x\n\turl = ext::sh -c "touch /mnt/submission/pwned"\n'
    )
    (work / "passwd").symlink_to("/etc/passwd")
    name = f"hostile-{desk.name}.git"
    make_repository(work, repositories / name)
    results = desk.grade("c-make", {"git": {"url": git_server.url(name)}})
    assert results.score == 10


def test_a_cancelled_run_is_killed_at_once(desk: Desk, tmp_path: Path) -> None:
    follower = desk.follower()

    def cancel(close: Callable[[], None]) -> None:
        follower.interruption = Cancelled()
        threading.Thread(target=close).start()

    follower.stop_at, follower.stop = "test: running", cancel
    with pytest.raises(Cancelled):
        desk.grade("python-pytest", {"files": {"stack.py": "while True: pass\n"}}, follower)


def _copy_with(source: Path, target: Path, old: str, new: str) -> None:
    for path in source.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            to = target / path.relative_to(source)
            to.parent.mkdir(parents=True, exist_ok=True)
            text = path.read_text()
            to.write_text(text.replace(old, new) if old else text)
