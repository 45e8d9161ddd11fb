"""GitHub Classroom's tests: how a repository says them, and the harness that runs them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from job_engine.errors import AssignmentError
from job_engine.grading.contracts.classroom import from_json
from job_engine.grading.contracts.recognise import bundle_of
from job_engine.grading.flavours import BUILT_IN
from job_engine.grading.policy import load_assignment
from job_engine.settings import SandboxSettings
from tests.support.classroom import Harness, harness_in


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Harness:
    """Return what runs the harness on tests."""
    return harness_in(tmp_path, monkeypatch)


def test_how_outputs_are_compared(harness: Harness) -> None:
    def test(name: str, run: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "run": run, "points": 2, **more}

    found = harness(
        [
            test("ends well", "cat; true"),
            test("ends badly", "echo no; false"),
            test("includes", "cat", input="a\r\nb", output="b"),
            test("exact", "printf 'x\\r\\ny\\n\\n'", output="x\ny", comparison="exact"),
            test("not exact", "echo xy", output="x", comparison="exact"),
            test("pattern", "echo abc", output="^a.c$", comparison="regex"),
            test("prints nothing", "cat", input="x", output=None),
            test("late", "sleep 60 & sleep 60", timeout=0.002),
        ]
    )
    assert found[""] == {"max_score": 16}
    assert {name: test["score"] for name, test in found.items() if name} == {
        "ends well": 2,
        "ends badly": 0,
        "includes": 2,
        "exact": 2,
        "not exact": 0,
        "pattern": 2,
        "prints nothing": 2,
        "late": 0,
    }
    assert "ended with exit code 1" in found["ends badly"]["output"]
    assert "must print exactly:\nx\nIt printed:\nxy" in found["not exact"]["output"]
    assert "took longer than" in found["late"]["output"]


def test_a_setup_must_end_well_unless_it_only_fetches_packages(harness: Harness) -> None:
    found = harness(
        [
            {"name": "made", "setup": "sudo -H -u root touch made", "run": "test -f made"},
            {"name": "not made", "setup": "make nothing-here 2>/dev/null", "run": "true"},
            {"name": "fetched", "setup": "sudo -H brew install absent", "run": "true"},
        ]
    )
    assert found[""] == {"max_score": 3}
    assert [found[name]["score"] for name in ("made", "not made", "fetched")] == [1, 0, 1]
    assert "the setup ended with exit code 2" in found["not made"]["output"]
    assert "has to be in the image" in found["fetched"]["output"]


def test_commands_that_an_image_has_not_are_stood_in_for(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "python3").write_text('#!/bin/sh\necho three "$@"\n')
    (bin_ / "python3").chmod(0o755)
    monkeypatch.setenv("PATH", str(bin_))
    found = harness(
        [
            {"name": name, "run": f"{name} a 'b c'", "output": printed, "comparison": "exact"}
            for name, printed in (
                ("python", "three a b c"),
                ("pip", "three -m pip a b c"),
                ("pytest", "three -m pytest a b c"),
                ("sudo -E -u root python3", "three a b c"),
            )
        ]
    )
    assert found[""] == {"max_score": 4}
    assert [test["output"] for name, test in found.items() if name and not test["score"]] == []


def test_a_failed_installation_of_packages_does_not_fail_the_test(harness: Harness) -> None:
    found = harness(
        [
            {"name": "and", "setup": "apt-get update -x && pip install -r no && touch and",
             "run": "test -f and"},
            {"name": "run", "run": "npm ci --offline; test $? -eq 0"},
            {"name": "module", "run": "python -m pip install --no-index absent && echo on"},
            {"name": "other", "run": "npm run install"},
        ]
    )  # fmt: skip
    assert [found[name]["score"] for name in ("and", "run", "module", "other")] == [1, 1, 1, 0]
    assert "'pip install -r no' failed; what it installs" in found["and"]["output"]
    assert "has to be in the image" in found["module"]["output"]


def test_processes_of_a_setup_end_with_its_test(harness: Harness) -> None:
    alive = "kill -0 $(cat pid) && ! grep -q Z /proc/$(cat pid)/stat"
    found = harness(
        [
            {"name": "its", "setup": "sleep 60 >/dev/null & echo $! >pid", "run": alive},
            {"name": "next", "run": f"while {alive}; do sleep 0.05; done 2>/dev/null"},
        ]
    )
    assert [found[name]["score"] for name in ("its", "next")] == [1, 1]


def test_steps_run_before_tests_and_stop_them_when_they_fail(
    harness: Harness, tmp_path: Path
) -> None:
    (tmp_path / "student" / "app").mkdir()

    def step(run: str, **more: Any) -> dict[str, Any]:
        return {"run": run, **more}

    found = harness(
        [
            {
                "name": "first",
                "before": [
                    step("false\ntouch not-reached", may_fail=True),
                    step("[[ $A == b ]] && pwd >where", env={"A": "b"}, directory="app"),
                    step('echo "$PWD/tools" >>"$GITHUB_PATH"; echo B=c >>"$GITHUB_ENV"'),
                    step("echo $B $GITHUB_WORKSPACE >b; mkdir tools; cp /bin/echo tools/said"),
                    step("open('p', 'w').write('x')", shell="python3"),
                ],
                "run": "cat app/where b p; said $B end; test ! -e not-reached",
            },
            {"name": "second", "before": [step("exit 3\n")], "run": "true"},
            {"name": "third", "before": [step("true")], "run": "true"},
        ]
    )
    student = tmp_path / "student"
    assert found["first"]["output"] == f"{student}/app\nc {student}\nxend"
    assert [found[name]["score"] for name in ("first", "second", "third")] == [1, 0, 0]
    assert "the workflow's step 'exit 3' ended with exit code 3" in found["third"]["output"]


def test_variables_that_steps_set_may_have_several_lines(harness: Harness) -> None:
    def first(written: str) -> Any:
        step = {"run": f"cat >>$GITHUB_ENV <<'END'\n{written}\nEND"}
        check = {"run": 'echo "$A|$B|$C|$x" >out'}
        return harness([{"name": "t", "before": [step, check], "run": "cat out"}])["t"]

    assert first("A=1<<2\nB<<EOF\nx=1\n\ny\nEOF\nC=a=b")["output"] == "1<<2|x=1\n\ny|a=b|"
    for wrong, why in (
        ("B<<EOF\nx=1", "the line 'EOF' is missing"),
        ("B", "'B' is not NAME="),
        ("=x=1", "'=x=1' is not NAME="),
    ):
        assert why in first(wrong)["output"]


def test_what_is_too_large_for_a_program_fails_only_what_is_given_it(harness: Harness) -> None:
    def fill(name: str, size: int) -> dict[str, Any]:
        return {"run": f"printf '{name}=%0{size}d\\n' 0 >>$GITHUB_ENV"}

    def test(name: str, *before: dict[str, Any], run: str = "true") -> dict[str, Any]:
        return {"name": name, "before": list(before), "run": run, "new_job": True}

    both = "echo ${{ env.A }} ${{ env.B }} | wc -c"
    found = harness(
        [
            test("one", fill("A", 140_000)),
            test("two", fill("A", 90_000), fill("B", 90_000), run=both),
            test("path", {"run": "printf '/%0140000d\\n' 0 >>$GITHUB_PATH"}),
            test("last"),
        ]
    )
    assert "'A' has more than 100,000 bytes" in found["one"]["output"]
    for name in ("two", "path"):
        assert found[name]["output"].startswith("ended with exit code 126\n[Errno 7]")
    assert [found[name]["score"] for name in ("one", "two", "path", "last")] == [0, 0, 0, 1]


def test_stand_ins_leave_variables_of_the_environment_alone(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("name", "real", "original", "failed", "limit", "installs", "word")
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for program in ("python3", "npm"):
        (bin_ / program).write_text(f"#!/bin/sh\necho {' '.join(f'${name}' for name in names)}\n")
        (bin_ / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:/usr/bin:/bin")
    values = " ".join(f"{name}={name.upper()}" for name in names)
    commands = ("python3", "python", "npm run", "npm install")
    found = harness([{"name": command, "run": f"{values} {command}"} for command in commands])
    expected = " ".join(names).upper()
    assert [found[command]["output"] for command in commands] == [expected] * len(commands)


def test_a_submission_is_completed_and_protected_files_replace_its_own(
    harness: Harness, tmp_path: Path
) -> None:
    for place, text in (("course", "course"), ("student", "student")):
        (tmp_path / place / "tests").mkdir()
        for name in ("main.txt", "tests/checked.txt"):
            (tmp_path / place / name).write_text(text)
    (tmp_path / "course" / "data").mkdir()
    (tmp_path / "course" / "data" / "only.txt").write_text("course")
    (tmp_path / "student" / "data").write_text("in the way")
    found = harness(
        [{"name": "all", "run": "cat main.txt tests/checked.txt data/only.txt"}],
        protected=["tests"],
    )
    assert found["all"]["output"] == "studentcoursecourse"


def test_a_submission_adds_nothing_to_what_is_protected(harness: Harness, tmp_path: Path) -> None:
    """Neither by files beside the course's own, nor by links on the way to them."""
    for name in ("tests/a.txt", "deep/er/b.txt", "free.txt"):
        (tmp_path / "course" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "course" / name).write_text("course\n")
    student = tmp_path / "student"
    (student / "tests").mkdir()
    (student / "tests" / "conftest.py").write_text("")
    (student / "mine").mkdir()
    (student / "deep").symlink_to("mine")
    (tmp_path / "course" / "linked").symlink_to("tests")
    run = "cat */a.txt deep/er/b.txt free.txt; ls tests mine"
    found = harness([{"name": "all", "run": run}], protected=["tests", "deep/er"])
    assert found["all"]["output"].split() == [*["course"] * 4, "mine:", "tests:", "a.txt"]
    assert not (student / "deep").is_symlink()


def test_what_is_protected_leads_to_nothing_of_the_submission(
    harness: Harness, tmp_path: Path
) -> None:
    """Neither by links to files and directories, nor where it lies behind a link itself."""
    course, student = tmp_path / "course", tmp_path / "student"
    for place in (course, student):
        for name in ("fixtures/expected", "shared/deep/data", "real/tests/a", "plain"):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(f"{place.name}'s {name}\n")
    (course / "tests").mkdir()
    links = {
        "tests/expected": "../fixtures/expected",
        "tests/twice": "expected",
        "tests/shared": "../shared",
        "tests/missing": "../build/made",
        "shared/deep/up": "../deep/data",
        "shared/deep/again": "..",
        "deep": "real",
        "free": "plain",
    }
    for name, target in links.items():
        (course / name).symlink_to(target)
    (student / "build").mkdir()
    (student / "build" / "made").write_text("student's")
    (student / "deep").symlink_to("real")
    read = ("tests/expected", "tests/twice", "tests/shared/deep/data", "tests/shared/deep/up")
    run = f"cat {' '.join(read)} deep/tests/a free; ls tests tests/shared/deep"
    found = harness([{"name": "all", "run": run}], protected=["tests/", "deep/tests"])
    assert found["all"]["output"].splitlines() == [
        *["course's fixtures/expected"] * 2,
        *["course's shared/deep/data"] * 2,
        "course's real/tests/a",
        # Which is not protected.
        "student's plain",
        *("tests:", "expected", "shared", "twice", ""),
        *("tests/shared/deep:", "data", "up"),
    ]
    assert os.readlink(student / "tests" / "twice") == "expected"


def test_pytest_divides_the_points(harness: Harness, tmp_path: Path) -> None:
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "python3").symlink_to(sys.executable)
    (tmp_path / "course" / "it's_test.py").write_text(
        "def test_one():\n    pass\n\ndef test_two():\n    assert 1 == 2\n"
    )
    tests = [{"name": "P", "pytest": True, "points": 10}]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{bin_}:/usr/bin:/bin")
        found = harness(tests)
    assert (found["P: test_one"]["score"], found["P: test_two"]["score"]) == (5, 0)
    assert "assert 1 == 2" in found["P: test_two"]["output"]


def test_a_repository_is_taken_by_its_configuration(tmp_path: Path) -> None:
    place = tmp_path / ".github" / "classroom"
    place.mkdir(parents=True)
    test = {"name": "t", "run": "true", "timeout": None, "points": None, "description": "more"}
    (place / "autograding.json").write_text(json.dumps({"tests": [test]}))
    with bundle_of(tmp_path) as bundle:
        assert ".github/classroom/autograding.json" in [
            n.removeprefix("tests/") for n in bundle.files
        ]
    assert from_json(json.dumps([{"name": 1, "run": "x"}]).encode())["classroom"]["tests"] == [
        {"name": 1, "run": "x", "comparison": "included"}
    ]
    for wrong in (b"{", b'{"tests": []}', b'{"tests": [1]}'):
        with pytest.raises(AssignmentError):
            from_json(wrong)


@pytest.mark.parametrize(
    ("tests", "why"),
    [
        ("[{name: a}]", r"classroom: .*run: a command is needed"),
        ("[{name: a, run: x, comparison: similar}]", r"comparison: .*'included', 'exact'"),
        ("[]", "classroom"),
    ],
)
def test_mistakes_are_told(tests: str, why: str) -> None:
    text = f"name: a\ncontract: classroom\nclassroom: {{tests: {tests}}}\n".encode()
    with pytest.raises(AssignmentError, match=why):
        load_assignment(text, BUILT_IN, SandboxSettings())
