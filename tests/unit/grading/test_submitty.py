"""Submitty: reading its configuration, and scoring as it does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from job_engine.errors import AssignmentError
from job_engine.grading.contracts import submitty
from job_engine.grading.contracts.grader_input import submitty_files
from job_engine.grading.contracts.recognise import bundle_of
from job_engine.grading.contracts.scripts.cases import submitty as harness
from job_engine.grading.contracts.scripts.cases import submitty_checks
from job_engine.grading.flavours import BUILT_IN
from job_engine.grading.policy import load_assignment
from job_engine.settings import SandboxSettings

CONFIG = """{
  // A comment, and "a text // that is none".
  "testcases": [
    {"type": "Compilation", "title": "Builds", "command": "cc -o a.out *.c", /* with cc */
     "executable_name": "a.out", "points": 2},
    {"title": "Prints", "command": ["./a.out", "sort < STDOUT_0.txt"], "points": 5, "hidden": true,
     "validation": [
       {"method": "diff", "actual_file": "STDOUT_0.txt", "expected_file": "out.txt",
        "deduction": 0.4},
       {"method": "diff", "actual_file": "STDOUT_1.txt", "expected_file": "sorted.txt",
        "deduction": 0.6, "failure_message": "sort it // yourself"}]},
    {"type": "FileCheck", "title": "README", "actual_file": "README*", "points": 1,
     "extra_credit": true},
    {"type": "FileCheck", "title": "Limit", "points": -5, "max_submissions": 20, "penalty": -0.1}
  ]
}"""
MAIN = '#include <stdio.h>\nint main(void) { puts("b\\na%s"); return 0; }\n'


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a configuration on a submission; return exit code and lines of results."""
    student = tmp_path / "student"
    student.mkdir()
    monkeypatch.chdir(student)

    def start(
        config: str, handed_in: dict[str, str], expected: dict[str, str]
    ) -> tuple[int, list[dict[str, Any]]]:
        bundle = tmp_path / "bundle" / "config"
        (bundle / "test_output").mkdir(parents=True, exist_ok=True)
        for name, text in expected.items():
            (bundle / "test_output" / name).parent.mkdir(parents=True, exist_ok=True)
            (bundle / "test_output" / name).write_text(text)
        for name, text in handed_in.items():
            (student / name).parent.mkdir(parents=True, exist_ok=True)
            (student / name).write_text(text)
        document = submitty.document(("config/config.json",), lambda _: config.encode())
        given = json.dumps({"name": "a", "contract": "submitty", **document})
        assignment = load_assignment(given.encode(), BUILT_IN, SandboxSettings())
        settings = json.loads(submitty_files(assignment)["submitty.json"])
        results = tmp_path / "tests.jsonl"
        settings |= {"bundle": str(tmp_path / "bundle"), "results": str(results)}
        (tmp_path / "submitty.json").write_text(json.dumps(settings))
        code = harness.main(str(tmp_path / "submitty.json"))
        lines = results.read_text().splitlines() if results.exists() else []
        return code, [json.loads(line) for line in lines]

    return start


EXPECTED = {"out.txt": "b\na\n", "sorted.txt": "a\nb\n"}


def test_a_right_submission_has_all_points(run: Any) -> None:
    code, (head, *tests) = run(
        CONFIG, {"main.c": MAIN.replace("%s", ""), "README.md": ""}, EXPECTED
    )
    assert (code, head["max_score"]) == (0, 7)
    assert [(test["name"], test["score"], test["max_score"]) for test in tests] == [
        ("Test 1 Builds", 2, 2),
        ("Test 2 Prints", 5, 5),
        ("Test 3 README", 1, 0),
    ]
    assert [test["visibility"] for test in tests] == ["visible", "hidden", "visible"]


def test_points_are_lost_by_deduction_and_likeness(run: Any) -> None:
    # One line of three is too many: a third of either deduction, and points are whole.
    _, (_, _, prints, readme) = run(CONFIG, {"main.c": MAIN.replace("%s", r"\nc")}, EXPECTED)
    assert (prints["score"], prints["status"], readme["score"]) == (3, "failed", 0)
    assert "sort it // yourself" in prints["output"]


def test_a_failed_compilation_costs_the_points_of_dependent_tests(run: Any) -> None:
    _, (_, builds, prints, _) = run(CONFIG, {"main.c": "int main("}, EXPECTED)
    assert (builds["score"], prints["score"]) == (0, 0)
    assert "ended with exit code 1" in builds["output"]
    assert "there is no a.out" in builds["output"]


@pytest.mark.parametrize(
    ("check", "text", "wanted", "grade"),
    [
        ({}, "a\nb\nc", "a\nx\nc", 2 / 3),
        ({}, "", "", 0),
        ({}, "a b", "a  b", 0),
        ({"comparison": "byLinebyWord"}, "a b\n", "a  b", 1),
        ({"ignoreWhitespace": True, "comparison": "byLine"}, " a", "a", 1),
        ({"lineSwapOk": True, "comparison": "byLine"}, "b\na", "a\nb", 1),
        ({"extra_student_output": True}, "x\na\ny\nb", "a\nb", 1),
    ],
)
def test_likeness(check: dict[str, Any], text: str, wanted: str, grade: float) -> None:
    rules = submitty.Validation(method="diff", **check).model_dump()
    assert submitty_checks.likeness(rules, text, wanted) == pytest.approx(grade)


@pytest.mark.parametrize(
    ("method", "printed", "score"),
    [
        ("errorIfEmpty", "", 0),
        ("errorIfEmpty", "x", 3),
        ("errorIfNotEmpty", "x", 0),
        ("errorIfNotEmpty", "", 3),
        ("warnIfEmpty", "", 3),
        ("warnIfNotEmpty", "x", 3),
    ],
)
def test_outputs_that_must_be_empty_or_not(
    run: Any, method: str, printed: str, score: float
) -> None:
    check = {"method": method, "actual_file": "STDOUT.txt"}
    test = {"command": f"printf '{printed}'", "points": 3, "validation": [check]}
    _, (_, result) = run(json.dumps({"testcases": [test]}), {}, {})
    assert result["score"] == score


def test_a_program_that_is_not_there_prints_nothing(run: Any) -> None:
    check = {"method": "errorIfEmpty", "actual_file": "STDERR.txt"}
    test = {"command": "./a.out", "points": 3, "validation": [check]}
    _, (_, result) = run(json.dumps({"testcases": [test]}), {}, {})
    assert result["score"] == 0
    assert "there is no ./a.out" in result["output"]


def test_an_expected_file_that_is_not_there_is_the_assignments_fault(run: Any) -> None:
    assert run(CONFIG, {"main.c": MAIN.replace("%s", "")}, {}) == (3, [])


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ('{"testcases": []}', "no testcases"),
        ('{"testcases": [', "cannot be read"),
        ('{"testcases": [{"containers": [1]}]}', "asks for containers"),
        ('{"testcases": [{"validation": [{"method": "custom"}]}]}', "the validation 'custom'"),
        ('{"testcases": [{"type": "Graphics"}]}', "tests of type Graphics"),
    ],
)
def test_what_is_not_taken(config: str, why: str) -> None:
    with pytest.raises(AssignmentError, match=why):
        submitty.document(("config.json",), lambda _: config.encode())


def test_a_program_that_was_handed_in_is_not_compiled(run: Any) -> None:
    forged = {"main.c": "int main(", "a.out": "#!/bin/sh\nprintf 'b\\na\\n'\n"}
    _, (_, builds, prints, _) = run(CONFIG, forged, EXPECTED)
    assert (builds["score"], prints["score"]) == (0, 0)
    _, (_, builds, _, _) = run(CONFIG, {"main.c": MAIN.replace("%s", "")}, {})
    assert builds["score"] == 2


@pytest.mark.parametrize(("patterns", "score"), [([], 0), (["**/*.py"], 1)])
def test_sources_stay_where_a_compilation_makes_nothing_else(
    run: Any, patterns: list[str], score: float
) -> None:
    checks = {"type": "Compilation", "command": "true", "executable_name": "*.py", "points": 1}
    config: dict[str, Any] = {"testcases": [checks]}
    if patterns:
        config["autograding"] = {"submission_to_compilation": patterns}
    _, (_, test) = run(json.dumps(config), {"main.py": ""}, {})
    assert test["score"] == score


def test_submitted_files_in_the_place_of_the_harness_are_replaced(run: Any, tmp_path: Path) -> None:
    (tmp_path / "student" / "loop").symlink_to("loop")
    (tmp_path / "student" / "away").symlink_to("/proc")
    handed_in = {"STDOUT.txt/x": "", "STDERR.txt/x": "", "lib": "", "in.txt/x": ""}
    given = {f"../{name}": "42\n" for name in ("provided_code/lib/a", "provided_code/loop")}
    given["../provided_code/away/a"] = "42\n"
    given |= {"../test_input/in.txt": "42\n", "42.txt": "42\n"}
    check = {"method": "diff", "expected_file": "42.txt"}
    tests = [
        {"command": f"cat {name}", "points": 1, "validation": [check]}
        for name in ("lib/a", "loop", "away/a", "in.txt")
    ]
    code, (_, *found) = run(json.dumps({"testcases": tests}), handed_in, given)
    assert (code, [test["score"] for test in found]) == (0, [1, 1, 1, 1])


def test_what_is_expected_is_no_output_of_a_program(run: Any, tmp_path: Path) -> None:
    expected = tmp_path / "bundle" / "config" / "test_output"
    (tmp_path / "student" / "out.txt").symlink_to(expected / "42.txt")
    (tmp_path / "student" / "deep").symlink_to(expected)
    (tmp_path / "student" / "own.txt").symlink_to("made.txt")
    check = {"method": "diff", "expected_file": "42.txt"}
    tests = [
        {"command": "true", "points": 1, "validation": [{**check, "actual_file": name}]}
        for name in ("out.txt", "deep/42.txt", "own.txt")
    ]
    given = {"made.txt": "42\n"}
    _, (_, *found) = run(json.dumps({"testcases": tests}), given, {"42.txt": "42\n"})
    assert [test["score"] for test in found] == [0, 0, 1]


@pytest.mark.parametrize(
    "does",
    [
        "rm STDERR.txt",
        "rm STDERR.txt; mkdir STDERR.txt",
        "mkfifo STDOUT_1.txt STDERR_1.txt",
        "rm STDERR_0.txt; mkfifo STDERR_0.txt",
        "cd ..; rm -rf $OLDPWD; touch $OLDPWD",
        "rm STDOUT_1.txt; for _ in $(seq 1500); do mkdir STDOUT_1.txt && cd STDOUT_1.txt; done",
    ],
)
def test_files_and_processes_of_a_program_do_not_affect_later_tests(run: Any, does: str) -> None:
    check = {"method": "errorIfEmpty", "actual_file": "STDOUT*.txt"}
    test = {"command": [does, "false"], "points": 1, "validation": [check]}
    last = {"command": "echo x", "points": 1, "validation": [check]}
    code, (_, _, found) = run(json.dumps({"testcases": [test, last]}), {}, {})
    assert (code, found["score"]) == (0, 1)
    made = {"type": "Compilation", "command": ["mkfifo p", does], "points": 1}
    code, (_, _, found) = run(json.dumps({"testcases": [made, last]}), {}, {})
    assert code == 0


def test_a_configuration_is_an_assignment(tmp_path: Path) -> None:
    (tmp_path / "hw" / "config" / "test_output").mkdir(parents=True)
    (tmp_path / "hw" / "config" / "config.json").write_text(CONFIG)
    (tmp_path / "hw" / "config" / "test_output" / "out.txt").write_text("b")
    with bundle_of(tmp_path / "hw") as bundle:
        assert "tests/config/config.json" in bundle.files
    with bundle_of(tmp_path / "hw" / "config") as bundle:
        assert "tests/config.json" in bundle.files


def one_test(**validation: Any) -> str:
    test = {"title": "T", "command": "cat found", "points": 4, "validation": [validation]}
    return json.dumps({"testcases": [test]})


@pytest.mark.parametrize(
    ("printed", "validation", "score"),
    [
        ("Hello\n", {"method": "diff", "expected_string": "Hello\n"}, 4),
        ("Hallo\n", {"method": "diff", "expected_string": "Hello\n"}, 0),
        (" 3\n", {"method": "intComparison", "comparison": "ge", "term": 3}, 4),
        ("2 loops", {"method": "intComparison", "comparison": "ge", "term": 3}, 0),
        ("2", {"method": "intComparison", "comparison": "ne", "term": 1}, 4),
        ("one two", {"method": "searchToken", "data": ["two", "three"]}, 2),
        ("one two", {"method": "searchToken", "data": "one t"}, 4),
        ("many", {"method": "intComparison", "comparison": "eq", "term": 3}, 0),
    ],
)
def test_checks_without_a_file(
    run: Any, printed: str, validation: dict[str, Any], score: float
) -> None:
    code, (_, test) = run(one_test(actual_file="STDOUT.txt", **validation), {"found": printed}, {})
    assert (code, test["score"]) == (0, score)


@pytest.mark.parametrize(
    ("text", "wanted", "grade"),
    [
        ("b\na\nx", "a\nb", 1 / 2),
        ("a\na\na", "a\nb\nc\nd", 1 / 4),
        ("a\na\nb", "a\nb", 1 / 2),
        ("x\ny\nz", "a", 0),
        ("a", "", 0),
    ],
)
def test_lines_in_any_order_lose_by_what_is_wrong(text: str, wanted: str, grade: float) -> None:
    rules = submitty.Validation(method="diff", lineSwapOk=True, comparison="byLine").model_dump()
    assert submitty_checks.likeness(rules, text, wanted) == pytest.approx(grade)


VALIDATOR = """
import json, os, sys
given = json.load(open("custom_validator_input.json"))
found = open(given["testcase_prefix"] + given["actual_file"]).read()
if found == "die":
    sys.exit("no luck")
said = {"status": "success", "data": {"score": float(found), "message": given["hint"]}}
if found == "0.25":
    said |= {"status": "failure", "message": "not mine to judge"}
out = sys.stdout if sys.argv[1] == "-" else open(sys.argv[1], "w")
json.dump(said, out)
"""


@pytest.mark.parametrize("to", ["-", "validation_results.json"])
@pytest.mark.parametrize(
    ("printed", "score", "output"),
    [
        ("1", 4, "look"),
        ("0.5", 2, "look"),
        ("7", 4, "look"),
        ("nan", 0, "the validator failed"),
        ("0.25", 0, "the validator failed: not mine to judge"),
        ("die", 0, "the validator failed: no luck"),
    ],
)
def test_a_validator_judges(
    run: Any, tmp_path: Path, to: str, printed: str, score: float, output: str
) -> None:
    place = tmp_path / "bundle" / "config" / "custom_validation_code"
    place.mkdir(parents=True)
    (place / "grader.py").write_text(VALIDATOR)
    config = one_test(
        method="custom_validator",
        command=f"python3 grader.py {to}",
        actual_file="STDOUT.txt",
        hint="look",
    )
    code, (_, test) = run(config, {"found": printed}, {})
    assert (code, test["score"]) == (0, score)
    assert test["output"].startswith(output)


def test_a_validator_follows_no_link_out_of_a_test(run: Any, tmp_path: Path) -> None:
    place = tmp_path / "bundle" / "config" / "custom_validation_code"
    place.mkdir(parents=True)
    (place / "grader.py").write_text(VALIDATOR)
    full = tmp_path / "full"
    full.write_text("1")
    validation = {
        "method": "custom_validator",
        "command": "python3 grader.py -",
        "actual_file": "out",
        "hint": "look",
    }
    test = {"command": f"ln -s {full} out", "points": 4, "validation": [validation]}
    code, (_, result) = run(json.dumps({"testcases": [test]}), {}, {})
    assert (code, result["score"]) == (0, 0)


_DEEP = "for _ in $(seq 1500); do mkdir d && cd d; done"


@pytest.mark.parametrize(("program", "validator"), [(_DEEP, "true"), ("true", _DEEP)])
def test_a_thousand_directories_do_not_end_validations(
    run: Any, program: str, validator: str
) -> None:
    check = {"method": "custom_validator", "command": validator, "actual_file": "STDOUT.txt"}
    judged = {"command": program, "points": 4, "validation": [check]}
    simple = {"method": "errorIfNotEmpty", "actual_file": "STDERR.txt"}
    after = {"command": "true", "points": 1, "validation": [simple]}
    code, (_, *tests) = run(json.dumps({"testcases": [judged, after]}), {}, {})
    assert (code, [test["score"] for test in tests]) == (0, [0, 1])


def test_a_comparison_that_says_nothing_is_the_assignments_fault(run: Any) -> None:
    assert run(one_test(method="intComparison", actual_file="STDOUT.txt"), {"found": "1"}, {})[0]


def test_limits_of_time_are_read() -> None:
    limits = {"resource_limits": {"RLIMIT_CPU": 100}}
    test = {"command": "true", "resource_limits": {"RLIMIT_CPU": 30, "RLIMIT_AS": "RLIM_INFINITY"}}
    for config, time_s in (({**limits, "testcases": [test]}, 100), ({"testcases": [test]}, 30)):
        files = {"config.json": json.dumps(config).encode()}
        found = submitty.document(tuple(files), files.__getitem__)["submitty"]
        assert found["time_s"] == time_s
