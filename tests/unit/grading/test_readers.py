"""What the results of PrairieLearn's and Autolab's graders, and of test runners, are read as."""

from __future__ import annotations

import json
from typing import Any

import pytest

from job_engine.grading.results.autolab import read_autolab
from job_engine.grading.results.base import HarnessError, Reading, TestOutput
from job_engine.grading.results.gradescope import read_gradescope
from job_engine.grading.results.junit import read_junit
from job_engine.grading.results.model import Image, Status, Visibility
from job_engine.grading.results.prairielearn import MAX_BYTES, read_prairielearn

PNG = "data:image/png;base64,AAAA"


def question(value: object, **fields: Any) -> Reading:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return read_prairielearn(TestOutput(files={"results/results.json": data}, **fields))


def lab(stdout: str, **weights: float) -> Reading:
    return read_autolab(TestOutput(files={}, stdout=stdout.encode(), weights=weights, exit_code=2))


def test_every_field_of_a_question_is_kept() -> None:
    reading = question(
        {
            "score": 0.75,
            "message": "\x1b[31mmind the\0 gap\x1b[0m",
            "output": "compiled",
            "images": [PNG, {"url": PNG, "label": "Plot"}, {"url": "https://example.org/x.png"}],
            "tests": [
                {"name": "a", "description": "d", "points": 1.001, "max_points": 1, "message": "m"},
                {"name": "b", "points": 0, "max_points": 2, "output": "o", "images": [PNG]},
                {"points": 0, "max_points": 0},
            ],
            "partial_scores": {"q1": {"score": 0.5}},
        },
        full_score=4.0,
    )
    assert (reading.score, reading.max_score, reading.gradable) == (3, 4, True)
    assert reading.grader_message == "\x1b[31mmind the\ufffd gap\x1b[0m"
    assert reading.output == "compiled"
    assert reading.images == [Image(url=PNG), Image(url=PNG, label="Plot")]
    one, two, three = reading.tests
    assert (one.description, one.message, one.status) == ("d", "m", Status.PASSED)
    assert (two.output, two.images, two.status) == ("o", [Image(url=PNG)], Status.FAILED)
    assert (three.name, three.status, three.max_score) == ("Test 3", None, 0)
    assert reading.extra_data == {"partial_scores": {"q1": {"score": 0.5}}}
    assert reading.notes == ["images[2]: not a data URL of an image, ignored"]


@pytest.mark.parametrize(
    ("errors", "told"), [("no file", ["no file"]), (["a", 2], ["a", "2"]), (None, [])]
)
def test_a_question_that_is_not_gradable_has_no_score(errors: object, told: list[str]) -> None:
    reading = question({"gradable": False, "score": 1, "format_errors": errors})
    assert (reading.gradable, reading.score, reading.format_errors) == (False, None, told)


def test_a_question_that_did_not_succeed_scores_nothing() -> None:
    reading = question({"succeeded": False, "score": 0.5})
    assert (reading.gradable, reading.score) == (True, 0)


def test_a_missing_score_is_none_at_all() -> None:
    reading = question({"tests": [{"name": "a", "points": 1}]})
    assert reading.score == 0
    assert reading.tests[0].score is None
    assert reading.notes == [
        "score: missing, taken as 0",
        "tests: one lacks points or max_points, so no test shows points",
    ]


@pytest.mark.parametrize(
    ("value", "fields", "why"),
    [
        ({"score": "0.5"}, {}, "not a number"),
        ({"score": True}, {}, "not a number"),
        ({"score": 1.5}, {}, "not between 0 and 1"),
        ({"score": -1}, {}, "not between 0 and 1"),
        (b"{", {}, "Could not parse the grading results"),
        (b"[]", {}, "Could not parse the grading results"),
        (b" " * (MAX_BYTES + 1), {}, "larger than 1MB"),
        ({"score": 1}, {"exit_code": 3}, "exit code 3"),
        ({"score": 1}, {"path": "elsewhere.json"}, "Could not read grading results"),
    ],
)
def test_results_of_a_question_that_do_not_count(
    value: object, fields: dict[str, Any], why: str
) -> None:
    with pytest.raises(HarnessError, match=why):
        question(value, **fields)


def test_the_last_line_of_a_lab_is_its_score() -> None:
    reading = lab(
        'making\n{"scores": {"a": 1}}\nmore\n'
        '{"scores": {"a": 3, "b": "2.5", "c": null}, "scoreboard": [7, "fast"]}\n\n',
        a=3,
        b=5,
        d=2,
    )
    assert {test.name: test.score for test in reading.tests} == {"a": 3, "b": 2.5, "c": 0, "d": 0}
    assert (reading.score, reading.max_score) == (5.5, None)
    assert [test.status for test in reading.tests] == [
        Status.PASSED,
        Status.FAILED,
        Status.FAILED,
        None,
    ]
    assert reading.scoreboard == [7, "fast"]
    assert reading.notes == ["scores: c: no problem of the lab has that name"]
    assert reading.output.startswith("making")
    assert lab('{"scores": {"a": 2}}', a=3).max_score == 3
    assert lab("{scores: {a: 2, b7:1}, scoreboard: [1]}", a=3).score == 3


@pytest.mark.parametrize(
    "stdout",
    ["", "make: *** [all] Error 1\n", '{"scores": {"a": 1}}\ndone\n', '{"scores": [1]}', "{", "[]"],
)
def test_a_lab_without_scores_is_feedback(stdout: str) -> None:
    reading = lab(stdout, a=3)
    assert (reading.score, reading.max_score, reading.tests) == (None, 3, [])
    assert reading.output == stdout
    assert "feedback only" in reading.notes[-1]


def test_a_visibility_that_cannot_be_read_hides() -> None:
    told = {
        "visibility": "after_deadline",
        "stdout_visibility": True,
        "tests": [
            {"score": 1, "number": 2.1},
            {"score": 1, "visibility": "Visible"},
            {"score": 1, "visibility": "visible"},
        ],
    }
    reading = read_gradescope(TestOutput(files={"results.json": json.dumps(told).encode()}))
    hidden, visible = Visibility.HIDDEN, Visibility.VISIBLE
    assert (reading.visibility, reading.stdout_visibility) == (hidden, hidden)
    assert [test.visibility for test in reading.tests] == [hidden, hidden, visible]
    assert reading.tests[0].number == "2.1"
    assert [note.partition(":")[0] for note in reading.notes] == [
        "visibility",
        "tests[1].visibility",
        "stdout_visibility",
    ]


def test_texts_that_a_shell_script_escaped_are_read_with_a_note() -> None:
    data = b"""{"score": 2, "output": "
a.c:1: \\'x\\' is no name\\\\tag \\/ \\" \\u0041 \\t
"}"""
    reading = read_gradescope(TestOutput(files={"results.json": data}))
    assert reading.score == 2
    assert reading.output == "\na.c:1: 'x' is no name\\tag / \" A \t\n"
    assert reading.notes == [
        "the results are not valid JSON: texts with bare line ends or backslashes"
    ]
    assert lab('{"scores": {"it\\\'s": 3}}').score == 3
    # Where the platform's own parser is a strict one, so is this.
    with pytest.raises(HarnessError, match="Could not parse"):
        question(b'{"score": 1, "message": "it\\\'s"}')


@pytest.mark.parametrize("data", [b'{"output": "\\u00"}', b'{"score": 1,}', b'{"score": 1} done'])
def test_invalid_json_is_refused_also_leniently(data: bytes) -> None:
    with pytest.raises(HarnessError, match="not valid JSON"):
        read_gradescope(TestOutput(files={"results.json": data}))


def test_tests_that_a_runner_did_not_run_have_not_passed() -> None:
    xml = b"""<testsuites><testsuite name="S" disabled="1">
    <testcase name="ran" status="run" result="completed" classname="S"/>
    <testcase name="DISABLED_a" status="notrun" result="suppressed" classname="S"/>
    <testcase name="b" status="run" result="skipped" classname="S"><skipped message="x"/></testcase>
    <testcase name="c" status="disabled" classname="S"/>
    <testcase name="d" status="fail" classname="S"><failure message="bad"/></testcase>
    </testsuite></testsuites>"""
    reading = read_junit(TestOutput(files={"r.xml": xml}))
    assert [test.score for test in reading.tests] == [1, None, None, None, 0]
    assert (reading.score, reading.max_score) == (1, 2)


def test_tests_without_a_score_inform_only() -> None:
    summary = {"name": "Public Tests", "status": "passed", "output": "q1 passed!"}
    told = {"tests": [summary, {"name": "q1", "score": 1, "max_score": 2}]}
    reading = read_gradescope(TestOutput(files={"results.json": json.dumps(told).encode()}))
    assert (reading.score, reading.max_score) == (1, 2)
    assert reading.tests[0].status is Status.PASSED
