"""The engine's harness for plain cases: finding, comparing, checkers; and its settings."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from job_engine.errors import AssignmentError
from job_engine.grading.contracts.grader_input import cases_files
from job_engine.grading.contracts.scripts.cases import checkers
from job_engine.grading.contracts.scripts.cases import harness as cases
from job_engine.grading.flavours import BUILT_IN
from job_engine.grading.policy import load_assignment
from job_engine.settings import SandboxSettings

PROGRAM = """#!{python}
import sys
text = sys.stdin.read()
what = sys.argv[1] if len(sys.argv) > 1 else "echo"
if what == "sleep":
    import time
    time.sleep(60)
if what == "flood":
    print("x" * 5000)
if what == "fail":
    sys.exit(4)
if what != "deaf":
    sys.stdout.write(text)
"""


@pytest.fixture
def harness(tmp_path: Path) -> Any:
    """Run the harness on cases given by file name; return its exit code and its lines."""
    (tmp_path / "tests").mkdir()
    program = tmp_path / "run"
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(0o755)

    def start(
        files: dict[str, str], run: str = str(program), **spec: Any
    ) -> tuple[int, list[dict[str, Any]]]:
        for name, content in files.items():
            file = tmp_path / "tests" / name
            file.parent.mkdir(exist_ok=True, parents=True)
            file.write_text(content)
        text = {"name": "a", "contract": "cases", "cases": {"program": "./x", **spec}}
        assignment = load_assignment(json.dumps(text).encode(), BUILT_IN, SandboxSettings())
        settings = json.loads(cases_files(assignment)["cases.json"])
        results = tmp_path / "tests.jsonl"
        settings |= {"run": run, "tests": str(tmp_path / "tests"), "results": str(results)}
        (tmp_path / "cases.json").write_text(json.dumps(settings))
        code = cases.main(str(tmp_path / "cases.json"))
        lines = results.read_text().splitlines() if results.exists() else []
        return code, [json.loads(line) for line in lines]

    return start


def test_cases_run_in_their_order_with_their_points(harness: Any) -> None:
    files = {f"{name}.in": name for name in ("a/10", "a/9", "b/1", "top")}
    files |= {f"{name}.out": name for name in ("a/10", "a/9", "top")} | {"b/1.ans": "no"}
    code, (head, *tests) = harness(
        files,
        points=2,
        groups={"b": {"points": 5, "visibility": "hidden"}},
        cases={"a/10": {"points": 0.5}},
    )
    assert code == 0
    assert head == {"planned": 4, "max_score": 9.5}
    assert [(test["name"], test["score"]) for test in tests] == [
        ("a/9", 2),
        ("a/10", 0.5),
        ("b/1", 0),
        ("top", 2),
    ]
    assert tests[2]["visibility"] == "hidden"
    assert tests[2]["output"] == "expected 'no', printed 'b/1'"
    assert tests[0]["extra_data"]["wall_time_s"] > 0


@pytest.mark.parametrize(
    ("what", "rules", "why", "ended"),
    [
        ("sleep", {"time_s": 0.3}, "no end within 0.3 s", "time-limit"),
        ("flood", {"output_bytes": 1000}, "printed more than 1,000 bytes", "output-limit"),
        ("fail", {}, "ended with exit code 4", "runtime-error"),
        ("fail", {"exit_code": 4}, "", None),
        ("fail", {"exit_code": "any"}, "", None),
        ("echo", {"exit_code": 4}, "ended with exit code 0, not 4", "runtime-error"),
        ("deaf", {}, "expected", None),
    ],
)
def test_how_a_run_ends_is_judged_first(
    harness: Any, what: str, rules: dict[str, Any], why: str, ended: str | None
) -> None:
    large = "x" * 300_000 if what == "deaf" else "x"
    expected = "" if what == "fail" else "x"
    _, (_, test) = harness({"1.in": large, "1.args": f"{what}\n", "1.out": expected}, **rules)
    assert why in test["output"]
    assert (test["status"] == "passed") == (not why)
    assert test["extra_data"].get("ended") == ended


def test_all_or_nothing_of_all_stops_at_the_first_that_is_wrong(harness: Any) -> None:
    files = {f"{group}/1.{end}": group for group in ("a", "b", "c") for end in ("in", "out")}
    _, (header, *right) = harness(files, all_or_nothing=True)
    assert ([test["score"] for test in right], header["max_score"]) == ([1, 1, 1], 3)
    files["b/1.out"] = "secret"
    _, (_, *tests) = harness(files, all_or_nothing=True, groups={"b": {"shown": False}})
    assert [test["score"] for test in tests] == [0, 0, 0]
    assert [test["status"] for test in tests] == ["passed", "failed", "failed"]
    assert [test["output"] for test in tests][1:] == [
        "wrong answer",
        "not run: a case before it is not right",
    ]


def test_all_or_nothing(harness: Any) -> None:
    files = {"g/1.in": "1", "g/1.out": "1", "g/2.in": "2", "g/2.out": "3"}
    groups = {"g": {"all_or_nothing": True}}
    _, (_, one, two) = harness(files, groups=groups)
    assert (one["score"], two["score"]) == (0, 0)
    assert "another case" in one["output"]
    _, (_, one, two) = harness({**files, "g/2.out": "2"}, groups=groups)
    assert (one["score"], two["score"]) == (1, 1)


@pytest.mark.parametrize(
    ("kind", "printed", "expected", "right"),
    [
        ("exact", "a\n", "a\n", True),
        ("exact", "a", "a\n", False),
        ("lines", "a  \r\nb\n\n\n", "a\nb", True),
        ("lines", "a\n\nb", "a\nb", False),
        ("tokens", " a\tb\n", "a b", True),
        ("tokens", "a B", "a b", False),
        ("floats", "1.0000001 x", "1 x", True),
        ("floats", "1000000.5", "1000000", True),
        ("floats", "1.1", "1", False),
        ("floats", "1 2", "1", False),
        ("floats", "nan", "1", False),
        ("floats", "nan", "NaN", False),
        ("floats", "inf", "Infinity", True),
        ("floats", "-inf", "inf", False),
        ("floats", "x", "1", False),
    ],
)
def test_built_in_checkers(kind: str, printed: str, expected: str, right: bool) -> None:
    assert checkers.same({"kind": kind}, printed.encode(), expected.encode()) is right


def test_a_checker_may_ignore_case() -> None:
    assert checkers.same({"kind": "tokens", "ignore_case": True}, b"YES", b"yes")


@pytest.mark.parametrize(
    ("script", "score", "why"),
    [
        ("exit 0", 4, ""),
        ("echo nearly; exit 1", 0, "nearly"),
        ("exit 2", 0, "wrong"),
        ("echo wrong output format; exit 4", 0, "wrong output format"),
        ("exit 8", 0, "wrong"),
        ("echo 0.5 half of it; exit 7", 2, "half of it"),
        ("echo points 0.25 a quarter; exit 7", 1, "a quarter"),
        ("cmp -s $2 $3 && grep -q x $1", 4, ""),
    ],
)
def test_a_custom_checker(harness: Any, script: str, score: float, why: str) -> None:
    checker = {"kind": "custom", "command": ["sh", "-c", script, "check"]}
    code, (_, test) = harness({"1.in": "x", "1.out": "x"}, checker=checker, points=4)
    assert (code, test["score"], test["output"]) == (0, score, why)


@pytest.mark.parametrize(
    ("script", "score", "why"),
    [
        ("[ -d $3 ] && cmp -s - $2 && grep -q x $1 && exit 42", 4, ""),
        ("exit 43", 0, "wrong"),
        ("echo secret >$3/judgemessage.txt; echo no >$3/teammessage.txt; exit 43", 0, "no"),
    ],
)
def test_an_output_validator_of_a_problem_package(
    harness: Any, script: str, score: float, why: str
) -> None:
    checker = {"kind": "kattis", "command": ["sh", "-c", script, "validate"]}
    code, (_, test) = harness({"1.in": "x", "1.ans": "x"}, checker=checker, points=4)
    assert (code, test["score"], test["output"]) == (0, score, why)


@pytest.mark.parametrize(
    ("script", "score"),
    [
        ("echo 3 >$3/score.txt; exit 42", 3),
        ("echo 1.0e+00 >$3/score.txt; exit 42", 1),
        ("echo 0.5 >$3/score_multiplier.txt; exit 42", 2),
        ("echo 3 >$3/score.txt; exit 43", 0),
    ],
)
def test_an_output_validator_that_scores(harness: Any, script: str, score: float) -> None:
    checker = {"kind": "kattis", "command": ["sh", "-c", script, "validate"]}
    _, (_, test) = harness({"1.in": "x"}, checker=checker, points=4)
    assert test["score"] == score


def test_the_worst_case_of_a_group_may_count(harness: Any) -> None:
    half = {"kind": "custom", "command": "echo 0.5; exit 7 #"}
    files = {"g/1.in": "1", "g/1.out": "1", "g/2.in": "2"}
    rules = {"groups": {"g": {"worst_counts": True, "points": 3}}}
    _, (_, *tests) = harness(files, cases={"g/2": {"checker": half}}, **rules)
    assert [test["score"] for test in tests] == [1.5, 1.5]


@pytest.mark.parametrize(
    ("writes", "score"),
    [("echo 100", 100), ("echo 120", 100), ('[ "$(cat $1)" = 2 ] && echo 40 || echo 100', 40)],
)
def test_scores_are_the_groups_where_its_worst_counts(
    harness: Any, writes: str, score: float
) -> None:
    script = f"({writes}) >$3/score.txt; exit 42"
    checker = {"kind": "kattis", "command": ["sh", "-c", script, "validate"]}
    rules = {"groups": {"g": {"worst_counts": True, "points": 25}}}
    files = {f"g/{number}.in": str(number) for number in range(1, 5)}
    _, (_, *tests) = harness(files, checker=checker, **rules)
    assert sum(test["score"] for test in tests) == pytest.approx(score)


def test_a_checker_is_built_once(harness: Any, tmp_path: Path) -> None:
    made = tmp_path / "made"
    checker = {
        "kind": "custom",
        "build": f"echo built >>{made}",
        "command": f"cat {made}; exit 1 #",
    }
    _, (_, *tests) = harness({"1.in": "", "2.in": ""}, checker=checker)
    assert [test["output"] for test in tests] == ["built", "built"]


NEGATIVE = "echo -1 >$3/score.txt; exit 42"
GUESS = 'read a; echo higher; read b; [ "$b" = 7 ] && exit {right}; echo wrong >&2; exit {wrong}'


def talker(directory: Path, text: str) -> str:
    """Return a program that does what a line of shell says."""
    program = directory / "talks"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize(
    ("text", "score", "why", "ended"),
    [
        ("echo 3; read l; [ $l = higher ] && echo 7", 1, "", None),
        ("echo 3; read l; echo 4", 0, "wrong", None),
        # What it does once it was told that it is wrong is no matter.
        ("echo 3; read l; echo 4; sleep 60", 0, "wrong", None),
        ("echo 3; read l; echo 7; sleep 60", 0, "no end within 1 s", "time-limit"),
        ("echo 3; read l; echo 7; exit 5", 0, "exit code 5", "runtime-error"),
        ("read l; echo 7", 0, "no end within 1 s", "time-limit"),
        ("exit 5", 0, "exit code 5", "runtime-error"),
        ("exit 0", 0, "wrong", None),
    ],
)
@pytest.mark.parametrize("kind", ["kattis", "interactor"])
def test_a_program_that_is_talked_with(
    harness: Any, tmp_path: Path, kind: str, text: str, score: float, why: str, ended: str | None
) -> None:
    if kind == "kattis":
        command = ["sh", "-c", GUESS.format(right=42, wrong=43)]
        rules: dict[str, Any] = {"checker": {"kind": kind, "command": command, "interactive": True}}
    else:
        rules = {kind: ["sh", "-c", GUESS.format(right=0, wrong=1)]}
    code, (_, test) = harness({"1.in": ""}, run=talker(tmp_path, text), time_s=1, **rules)
    assert (code, test["score"]) == (0, score)
    assert why in test["output"]
    assert test["extra_data"].get("ended") == ended


def test_a_judge_may_say_that_there_is_no_more(harness: Any, tmp_path: Path) -> None:
    judge = 'echo 3; echo 4; exec >&-; read sum; [ "$sum" = 7 ] || exit 1'
    program = talker(tmp_path, "set -- $(cat); echo $(($1 + $2))")
    _, (_, test) = harness({"1.in": ""}, run=program, interactor=["sh", "-c", judge])
    assert (test["score"], test["output"]) == (1, "")


def test_a_rejecting_judge_counts_as_the_first_to_end(harness: Any, tmp_path: Path) -> None:
    # It exits with an error when its input ends, as one does that expects more.
    program = talker(tmp_path, "echo 4; read l; read l || exit 5")
    files = {f"{number}.in": "" for number in range(20)}
    judge = ["sh", "-c", "read l; echo no; echo wrong >&2; exit 1"]
    _, (_, *tests) = harness(files, run=program, interactor=judge)
    assert {test["output"] for test in tests} == {"wrong"}


@pytest.mark.parametrize("interactor", [None, ["sh", "-c", "cat; exec sleep 60"]])
@pytest.mark.parametrize("program", ["absent", "noexec"])
def test_a_program_that_cannot_be_started_has_no_points(
    harness: Any, tmp_path: Path, program: str, interactor: list[str] | None
) -> None:
    (tmp_path / "noexec").write_text("words")
    (tmp_path / "noexec").chmod(0o755)
    before = len(os.listdir("/proc/self/fd"))
    rules = {"interactor": interactor} if interactor else {}
    files = {"1.in": "", "1.out": ""}
    code, (_, test) = harness(files, run=str(tmp_path / program), **rules)
    assert (code, test["score"], test["extra_data"]["ended"]) == (0, 0, "runtime-error")
    assert "cannot be run" in test["output"]
    assert len(os.listdir("/proc/self/fd")) == before


def test_partial_results_do_not_count_where_the_harness_fails(harness: Any, tmp_path: Path) -> None:
    # A directory in the place of an expected output.
    (tmp_path / "tests" / "2.out").mkdir(parents=True)
    assert harness({"1.in": "x", "1.out": "x", "2.in": "x"}) == (3, [])


def test_a_checker_may_judge_what_an_interactor_wrote(harness: Any, tmp_path: Path) -> None:
    rules = {"interactor": ["sh", "-c", "cat >$2", "talk"], "checker": "tokens"}
    program = talker(tmp_path, "echo one")
    _, (_, *tests) = harness(
        {"1.in": "", "1.ans": "one", "2.in": "", "2.ans": "two"}, run=program, **rules
    )
    assert [test["score"] for test in tests] == [1, 0]


def test_an_interactor_that_makes_nothing_of_an_early_end(harness: Any, tmp_path: Path) -> None:
    rules = {"interactor": ["sh", "-c", "read line || exit 9"]}
    code, (_, test) = harness({"1.in": ""}, run=talker(tmp_path, "exit 0"), **rules)
    assert (code, test["score"]) == (0, 0)
    assert "ended before all was said" in test["output"]


@pytest.mark.parametrize(
    ("files", "spec"),
    [
        ({"1.in": "x"}, {"interactor": "exit 9"}),
        ({"1.in": "x"}, {"interactor": ["/absent"]}),
        ({"1.in": "x"}, {"interactor": {"command": "true", "build": "exit 1"}}),
        (
            {"1.in": "x"},
            {"checker": {"kind": "kattis", "command": "echo -1 >$3/score.txt; exit 42"}},
        ),
        ({"1.in": "x", "1.out": "x"}, {"checker": {"kind": "custom", "command": "exit 9"}}),
        ({"1.in": "x", "1.out": "x"}, {"checker": {"kind": "kattis", "command": "exit 0 #"}}),
        ({"1.in": "x", "1.out": "x"}, {"checker": {"kind": "custom", "command": "echo 7; exit 7"}}),
        ({"1.in": "x", "1.out": "x"}, {"checker": {"kind": "custom", "command": ["/absent"]}}),
        ({"1.in": "x"}, {}),
        ({"readme.txt": "x"}, {}),
        ({"1.in": "x", "1.out": "x"}, {"cases": {"2": {"points": 1}}}),
    ],
)
def test_a_broken_assignment_costs_no_submission_points(
    harness: Any, files: dict[str, str], spec: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = harness(files, **spec)
    assert (code, lines) == (3, [])
    assert "The assignment is broken" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("contract: cases", "cases: it goes with"),
        ("contract: cases\ncases: {checker: tokens}", "program"),
        ("contract: cases\ncases: {program: ./x, checker: near}", "checker"),
        ("contract: cases\ncases: {program: ./x, checker: custom}", "command"),
        ("contract: cases\ncases: {program: ./x, groups: {a: {point: 1}}}", "did you mean"),
    ],
)
def test_mistakes_are_told_by_line(text: str, why: str) -> None:
    with pytest.raises(AssignmentError, match=why):
        load_assignment(f"name: a\n{text}\n".encode(), BUILT_IN, SandboxSettings())


def test_cases_cannot_be_forged() -> None:
    text = b"{name: a, contract: cases, cases: {program: ./x}}"
    assert not load_assignment(text, BUILT_IN, SandboxSettings()).forgeable
