"""Problem packages of contests: what they say, as plain cases."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from job_engine.errors import AssignmentError
from job_engine.grading.contracts import problem_package
from job_engine.grading.contracts.recognise import bundle_of
from job_engine.grading.flavours import BUILT_IN
from job_engine.grading.policy import load_assignment
from job_engine.settings import SandboxSettings


def told(files: dict[str, str]) -> dict[str, Any]:
    content = {name: text.encode() for name, text in files.items()}
    return problem_package.document(tuple(content), lambda name: content.get(name, b""))


MAIN_C = '#include <stdio.h>\nint two(void);int main(void){printf("%d",two());}'
CASES = {"data/sample/1.in": "", "data/secret/1.in": "", "data/secret/2.in": ""}


def test_the_plainest_package() -> None:
    found = told({"problem.yaml": "name: Hello\n", **CASES})
    cases = found["cases"]
    assert found["title"] == "Hello"
    assert (cases["directory"], cases["time_s"], cases["all_or_nothing"]) == ("data", 5, True)
    assert cases["checker"] == {"kind": "tokens", "ignore_case": True}
    assert cases["groups"] == {"secret": {"shown": False}}
    assert found["limits"]["wall_time_s"] == 75


@pytest.mark.parametrize(
    ("flags", "checker"),
    [
        ("case_sensitive", {"kind": "tokens", "ignore_case": False}),
        ("float_tolerance 1e-4", {"kind": "floats", "tolerance": 1e-4, "ignore_case": True}),
        (
            "case_sensitive float_absolute_tolerance 1e-9 float_relative_tolerance 1e-3",
            {"kind": "floats", "tolerance": 1e-3, "ignore_case": False},
        ),
        ("space_change_sensitive case_sensitive", {"kind": "exact", "ignore_case": False}),
    ],
)
def test_flags_of_the_default_validator(flags: str, checker: dict[str, Any]) -> None:
    found = told({"problem.yaml": f"validator_flags: {flags}\n", **CASES})
    assert found["cases"]["checker"] == checker


@pytest.mark.parametrize(
    ("problem", "files", "place"),
    [
        ("validation: custom", ["output_validators/check/a.cc"], "output_validators/check"),
        ("validation: custom", ["output_validators/a.py"], "output_validators"),
        ("type: pass-fail", ["output_validator/a.cc"], "output_validator"),
        ("validation: default", ["output_validators/a.py"], None),
    ],
)
def test_which_validator_a_package_has(problem: str, files: list[str], place: str | None) -> None:
    found = told({"problem.yaml": problem, **CASES, **dict.fromkeys(files, "")})
    checker = found["cases"]["checker"]
    assert checker.get("command", [None] * 5)[4] == (place and f"/mnt/tests/{place}")


@pytest.mark.parametrize(
    ("files", "time_s"),
    [
        ({"problem.yaml": "limits: {time_limit: 1.5}"}, 1.5),
        ({"problem.yaml": "", ".timelimit": "3\n"}, 3),
        ({"problem.yaml": "", "domjudge-problem.ini": "color = red\ntimelimit = '2'\n"}, 2),
    ],
)
def test_where_the_time_limit_is(files: dict[str, str], time_s: float) -> None:
    assert told({**files, **CASES})["cases"]["time_s"] == time_s


def test_a_scored_package_has_points_by_group() -> None:
    found = told(
        {
            "problem.yaml": "type: scoring",
            **CASES,
            "data/testdata.yaml": "grader_flags: sum",
            "data/secret/one/1.in": "",
            "data/secret/one/2.in": "",
            "data/secret/one/testdata.yaml": "{grader_flags: min, accept_score: 30}",
            "data/secret/two/1.in": "",
            "data/secret/two/2.in": "",
            "data/secret/two/test_group.yaml": "{max_score: 70, score_aggregation: sum}",
        }
    )
    assert "all_or_nothing" not in found["cases"]
    assert found["cases"]["groups"] == {
        "sample": {"points": 0},
        "secret": {"shown": False, "points": 1},
        "secret/one": {"shown": False, "points": 15, "all_or_nothing": True},
        "secret/two": {"shown": False, "points": 35},
    }


def test_an_interactive_package_has_a_validator_that_talks() -> None:
    for problem in ("type: interactive", "validation: custom interactive"):
        files = {"problem.yaml": problem, ".timelimit": "3", "output_validators/a.py": "", **CASES}
        cases = told(files)["cases"]
        assert cases["checker"]["interactive"]
        assert cases["time_s"] == 6


def test_a_validator_that_scores_gives_a_part_of_what_its_group_can_give() -> None:
    found = told(
        {
            "problem.yaml": "{type: scoring, validation: custom score}",
            **CASES,
            "output_validators/a.py": "",
            "data/secret/testdata.yaml": "{grader_flags: min, range: 0 50}",
        }
    )
    assert found["cases"]["groups"]["secret"] == {
        "shown": False,
        "points": 25,
        "worst_counts": True,
    }


@pytest.mark.parametrize(
    ("problem", "why"),
    [
        ("type: interactive", "interactive, and there is no output_validator"),
        ("type: [scoring, multi-pass]", "multi-pass"),
        ("validation: custom", "there is no output_validator"),
    ],
)
def test_what_is_not_taken(problem: str, why: str) -> None:
    with pytest.raises(AssignmentError, match=why):
        told({"problem.yaml": problem, **CASES})


def test_a_package_is_an_assignment(tmp_path: Path) -> None:
    for name in (*CASES, "data/secret/1.ans", "submissions/accepted/a.py", "problem.yaml"):
        (tmp_path / "p" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "p" / name).write_text("")
    (tmp_path / "p" / "assignment.yaml").write_text("cases: {all_or_nothing: false}\n")
    with bundle_of(tmp_path / "p") as bundle:
        assert "tests/data/secret/1.ans" in bundle.files
        assert not any("submissions" in name for name in bundle.files)
        text = package_document(bundle)
    assignment = load_assignment(text, BUILT_IN, SandboxSettings())
    assert assignment.cases is not None
    assert (assignment.name, assignment.cases.all_or_nothing) == ("p", False)
    assert not assignment.forgeable


XML = """<problem short-name="sum"><names><name language="english" value="Sum"/></names>
<judging><testset name="tests"><time-limit>1500</time-limit><memory-limit>67108864</memory-limit>
<test-count>2</test-count><input-path-pattern>tests/%02d</input-path-pattern>
<answer-path-pattern>tests/%02d.a</answer-path-pattern>
<tests><test sample="true" {one}/><test {two}/></tests>
<groups><group name="big" points-policy="complete-group"/></groups></testset></judging>
<assets><checker name="{checker}"><source path="files/check.cpp"/></checker>{more}</assets>
</problem>
"""


def polygon_of(
    directory: Path,
    *,
    checker: str = "std::rcmp6.cpp",
    one: str = "",
    two: str = "",
    more: str = "",
) -> Path:
    for name in ("tests/01", "tests/01.a", "tests/02", "tests/02.a", "files/check.cpp"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(name)
    text = XML.format(checker=checker, one=one, two=two, more=more)
    (directory / "problem.xml").write_text(text)
    return directory


def test_a_polygon_package_is_an_assignment(tmp_path: Path) -> None:
    with bundle_of(polygon_of(tmp_path / "sum")) as bundle:
        assert {name for name in bundle.files if "/cases/" in name} == {
            "tests/cases/sample/001.in",
            "tests/cases/sample/001.ans",
            "tests/cases/secret/002.in",
            "tests/cases/secret/002.ans",
        }
        assignment = load_assignment(package_document(bundle), BUILT_IN, SandboxSettings())
    cases = assignment.cases
    assert cases is not None
    assert (assignment.title, cases.time_s, cases.all_or_nothing) == ("Sum", 1.5, True)
    assert cases.checker is not None
    assert (cases.checker.kind, cases.checker.tolerance) == ("floats", 1e-6)


def test_a_polygon_package_with_points_and_a_checker_of_its_own(tmp_path: Path) -> None:
    source = polygon_of(
        tmp_path, checker="own.cpp", one='points="10.0"', two='points="90" group="big"'
    )
    with bundle_of(source) as bundle:
        assert "tests/cases/secret/big/002.in" in bundle.files
        assignment = load_assignment(package_document(bundle), BUILT_IN, SandboxSettings())
    cases = assignment.cases
    assert cases is not None
    assert cases.checker is not None
    assert cases.checker.command is not None
    assert cases.checker.command[-1] == "/mnt/tests/files/check.cpp"
    assert {name: rules.points for name, rules in cases.cases.items()} == {
        "sample/001": 10,
        "secret/big/002": 90,
    }
    assert cases.groups["secret/big"].all_or_nothing


def test_an_interactive_problem_of_polygon(tmp_path: Path) -> None:
    interactor = '<interactor><source path="files/check.cpp"/></interactor>'
    with bundle_of(polygon_of(tmp_path / "talks", more=interactor)) as bundle:
        assignment = load_assignment(package_document(bundle), BUILT_IN, SandboxSettings())
    cases = assignment.cases
    assert cases is not None
    assert cases.interactor is not None
    assert cases.interactor.build == cases.interactor.command
    assert cases.interactor.command[-2:] == ["interactor", "/mnt/tests/files/check.cpp"]


def test_unsupported_polygon_packages_are_refused(tmp_path: Path) -> None:
    absent = polygon_of(tmp_path / "one", more="<interactor><source path='files/x'/></interactor>")
    with pytest.raises(AssignmentError, match="interactor 'files/x' is not"), bundle_of(absent):
        pass
    lacking = polygon_of(tmp_path / "two")
    (lacking / "tests" / "02").unlink()
    with pytest.raises(AssignmentError, match="full package"), bundle_of(lacking):
        pass


def package_document(bundle: Any) -> bytes:
    with tarfile.open(fileobj=bundle.stream) as tar:
        file = tar.extractfile("assignment.yaml")
        assert file is not None
        return file.read()


@pytest.mark.parametrize(
    ("files", "printed"),
    [
        ({"it's.py": "print('py')"}, "py"),
        ({"helper.py": "x = 'main'", "main.py": "import helper; print(helper.x)"}, "main"),
        ({"a.c": "int two(void){return 2;}", "b.c": MAIN_C}, "2"),
        ({"run.sh": 'echo "sh $1"'}, "sh x"),
    ],
)
def test_a_submission_is_built_by_the_names_of_its_files(
    tmp_path: Path, files: dict[str, str], printed: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    found = told({"problem.yaml": "", **CASES})
    build = found["phases"]["build"]["command"]
    done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    command = [*found["cases"]["program"]["command"], "x"]
    assert subprocess.check_output(command, cwd=tmp_path, text=True).strip() == printed


@pytest.mark.parametrize(
    ("files", "why"),
    [({"README": "x"}, "No file's name"), ({"main.py": "def:"}, "SyntaxError")],
)
def test_packages_that_cannot_be_built_are_refused_with_the_reason(
    tmp_path: Path, files: dict[str, str], why: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    build = told({"problem.yaml": "", **CASES})["phases"]["build"]["command"]
    done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert why in done.stdout + done.stderr


VALIDATE_CC = """#include "right.h"
#include <iostream>
#include <string>
int main(int count, char **given) {
    std::string word;
    std::cin >> word;
    return count == 6 && std::string(given[4]) == "two" && word == RIGHT ? 42 : 43;
}
"""
CHECK_CPP = """#include <fstream>
#include <string>
int main(int, char **given) {
    std::string one, other;
    std::ifstream(given[2]) >> one;
    std::ifstream(given[3]) >> other;
    return one == other ? 0 : 1;
}
"""


def ends(command: list[str], directory: Path, *arguments: str, stdin: str = "") -> int:
    """Call it; return how it ended."""
    environment = {"PATH": "/usr/bin:/bin", "TMPDIR": str(directory)}
    return subprocess.run(
        [*command, *arguments], env=environment, input=stdin, text=True, check=False
    ).returncode


def test_a_validator_is_built_and_told_its_flags_last(tmp_path: Path) -> None:
    source = tmp_path / "output_validators" / "own"
    source.mkdir(parents=True)
    (source / "validate.cc").write_text(VALIDATE_CC)
    (source / "right.h").write_text('#define RIGHT "yes"\n')
    problem = "{validation: custom, validator_flags: two words}"
    files = {"problem.yaml": problem, "output_validators/own/validate.cc": "", **CASES}
    checker = told(files)["cases"]["checker"]
    build, command = checker["build"], checker["command"]
    build[4] = command[4] = str(source)
    assert ends(build, tmp_path) == 0
    assert ends(command, tmp_path, "in", "ans", "dir/", stdin="yes") == 42
    assert ends(command, tmp_path, "in", "ans", "dir/", stdin="no") == 43


def test_a_validator_that_cannot_be_built_says_so(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "validate.cc").write_text("int main( {")
    files = {"problem.yaml": "type: pass-fail", "output_validator/validate.cc": "", **CASES}
    build = told(files)["cases"]["checker"]["build"]
    assert ends([*build[:4], str(tmp_path / "own")], tmp_path) != 0


def test_a_checker_of_polygons_is_built(tmp_path: Path) -> None:
    with bundle_of(polygon_of(tmp_path / "p", checker="own.cpp")) as bundle:
        assignment = load_assignment(package_document(bundle), BUILT_IN, SandboxSettings())
    assert assignment.cases is not None
    assert assignment.cases.checker is not None
    source = tmp_path / "check.cpp"
    source.write_text(CHECK_CPP)
    for name, text in (("in", "x"), ("out", "3"), ("right", "3\n"), ("wrong", "4")):
        (tmp_path / name).write_text(text)
    command = [*(assignment.cases.checker.command or [])[:-1], str(source)]
    assert ends(command, tmp_path) == 0
    files = [str(tmp_path / name) for name in ("in", "out")]
    assert ends(command, tmp_path, *files, str(tmp_path / "right")) == 0
    assert ends(command, tmp_path, *files, str(tmp_path / "wrong")) == 1
