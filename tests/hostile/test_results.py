"""Results that somebody made to break us: what can be stored is stored, nothing else happens."""

from __future__ import annotations

import json
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from job_engine.grading.results import (
    FORMATS,
    HarnessError,
    Outcome,
    Reading,
    Receipt,
    Results,
    TestOutput,
    TestResult,
    read_results,
    to_json,
)
from job_engine.grading.results.hostile import MAX_TEXT, decode
from job_engine.grading.results.model import Status
from job_engine.grading.results.stream import DEFAULT_PATH, MAX_OTHERS, TestStream


def gradescope(data: bytes | dict[str, Any]) -> Reading:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return read_results("gradescope", TestOutput(files={"results.json": raw}))


def junit(data: str) -> Reading:
    return read_results("junit", TestOutput(files={"junit.xml": data.encode()}))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[1]", "list, not an object"),
        (b'"x"', "text, not an object"),
        (b"null", "not an object"),
        (b"{}", "neither a score"),
        (b'{"tests": []}', "neither a score"),
        (b'{"tests": [{"name": "a"}]}', "neither a score"),
        (b'{"score": NaN}', "neither a score"),
        (b'{"score": true}', "neither a score"),
        (b'{"score": 1e999}', "neither a score"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b" " * 5_000_000 + b"{}", "larger than"),
    ],
)
def test_results_that_cannot_be_stored_are_a_failure_of_the_harness(data: bytes, why: str) -> None:
    with pytest.raises(HarnessError, match=why):
        gradescope(data)


@pytest.mark.parametrize(
    ("data", "score", "noted"),
    [
        (b'{"score": 1, "score": 2}', 2, "twice"),
        (b'{"score": 3, "x": NaN, "y": -Infinity}', 3, "no JSON number"),
        (b'{"score": 3, "output": "\xff\xfe"}', 3, "not valid utf-8"),
        (b'{"score": "4.5"}', 4.5, ""),
        (b'{"score": 5, "tests": {"a": 1}}', 5, "not a list"),
        (b'{"score": 5, "tests": [1, null, "x"]}', 5, "not an object"),
        (b'{"score": 5, "visibility": "nobody"}', 5, "visibility"),
        (b'{"score": 5, "output": {"a": [1]}}', 5, "not text"),
        (b'{"score": 5, "extra_data": 7}', 5, "not an object"),
        (b'{"score": 5, "leaderboard": [{"name": 1}]}', 5, "without name or value"),
        (b'\xef\xbb\xbf{"score": 6}', 6, ""),
        ('{"score": 6}'.encode("utf-16"), 6, ""),
        (b'{"score": -7}', -7, ""),
    ],
)
def test_wrong_values_are_corrected_and_noted(data: bytes, score: float, noted: str) -> None:
    reading = gradescope(data)
    assert reading.score == score
    assert noted in " ".join(reading.notes)
    assert reading.notes or not noted


def test_a_number_of_a_million_digits_is_a_number() -> None:
    assert (gradescope(b'{"score": ' + b"9" * 1_000_000 + b"}").score or 0) > 1e290


@pytest.mark.parametrize("name", ["autolab", "gradescope", "stream"])
def test_points_without_a_sum_are_stored(name: str) -> None:
    tests = [{"name": f"t{n}", "score": 1e308, "max_score": 1e308} for n in range(3)]
    document = json.dumps({"tests": tests, "scores": {test["name"]: 1e308 for test in tests}})
    lines = "\n".join(json.dumps(test) for test in tests)
    files = {"results.json": document.encode(), "tests.jsonl": lines.encode()}
    reading = read_results(name, TestOutput(files=files, stdout=document.encode()))
    assert reading.score == pytest.approx(3e300)
    to_json(results(tests=reading.tests, score=reading.score, max_score=reading.max_score))


def test_text_that_cannot_be_stored_is_replaced() -> None:
    reading = gradescope(rb'{"score": 1, "output": "a\u0000b\ud800c"}')
    assert reading.output == "a\ufffdb\ufffdc"
    reading = gradescope({"score": 1, "output": "x" * (MAX_TEXT + 100)})
    assert reading.output.endswith("cut: 100 more characters")


def test_the_contract_of_gradescope() -> None:
    reading = gradescope(
        {
            "execution_time": "0.12",
            "visibility": "after_published",
            "test_output_format": "md",
            "stdout_visibility": "visible",
            "unknown": 1,
            "tests": [
                {"score": 1, "max_score": 2, "name": "half", "number": "1.1", "tags": ["a"]},
                {"score": 2, "max_score": 2, "visibility": "hidden", "output_format": "ansi"},
                {"score": 0, "max_score": 0, "status": "failed"},
            ],
            "leaderboard": [{"name": "t", "value": 3, "order": "asc"}, {"name": "n", "value": "x"}],
        }
    )
    assert (reading.score, reading.max_score, reading.execution_time) == (3, 4, 0.12)
    assert [test.status for test in reading.tests] == ["failed", "passed", "failed"]
    assert [test.visibility for test in reading.tests] == [
        "after_published",
        "hidden",
        "after_published",
    ]
    assert [test.output_format for test in reading.tests] == ["md", "ansi", "md"]
    assert [test.number for test in reading.tests] == ["1.1", "2", "3"]
    assert reading.tests[1].name == "Test 2"
    assert [(e.value, e.order) for e in reading.leaderboard] == [(3, "asc"), ("x", "desc")]
    overridden = gradescope({"score": 9, "tests": [{"score": 1}]})
    assert overridden.score == 9


@pytest.mark.parametrize(
    "document",
    [
        '<!DOCTYPE x [<!ENTITY a "aaaa">]><testsuite><testcase name="&a;"/></testsuite>',
        '<!DOCTYPE x SYSTEM "file:///etc/passwd"><testsuite><testcase name="a"/></testsuite>',
        '<!DOCTYPE x><testsuite><testcase name="a"/></testsuite>',
        "<a>" * 100 + "</a>" * 100,
        "<testsuite>",
        "<testsuite/>",
        "",
    ],
)
def test_junit_that_is_refused(document: str) -> None:
    with pytest.raises(HarnessError):
        junit(document)


def test_junit_is_read_wherever_the_cases_stand() -> None:
    found = TestOutput(
        files={
            "a.xml": b'<testsuites><testsuite><testcase classname="c" name="one" time="1.5"/>'
            b'<testcase name="two"><failure message="no">trace</failure></testcase>'
            b"</testsuite></testsuites>",
            "b.xml": b'<testsuite><testcase name="three"><skipped/></testcase>'
            b'<testcase name="four" time="x"><error/></testcase></testsuite>',
        },
        weights={"two": 3.0},
    )
    reading = read_results("junit", found)
    assert (reading.score, reading.max_score) == (1, 5)
    assert [(t.name, t.status) for t in reading.tests] == [
        ("c.one", "passed"),
        ("two", "failed"),
        ("three", None),
        ("four", "failed"),
    ]
    assert reading.tests[1].output == "no\ntrace"
    assert reading.execution_time == 1.5


@pytest.mark.parametrize(
    ("text", "score", "total"),
    [
        ("1..2\nok 1 - a\nnot ok 2 - b\n# why\n", 1, 2),
        ("ok\nok\n1..3\n", 2, 3),
        ("1..2\nok 1 # SKIP later\nnot ok 2 # TODO\n", 1, 1),
        ("1..2\nok 1\nBail out! no more\nok 2\n", 1, 2),
        ("1..99999999\nok 1\n", 1, 5000),
        ("TAP version 14\n1..1\nok 1 - a\n  ---\n  a: b\n  ...\n", 1, 1),
    ],
)
def test_tap(text: str, score: float, total: float) -> None:
    reading = read_results("tap", TestOutput(files={}, stdout=text.encode()))
    assert (reading.score, reading.max_score) == (score, total)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("tap", TestOutput(files={}, stdout=b"ok\n" * 100_000)),
        (
            "junit",
            TestOutput(
                files={f"{n}.xml": b"<s>" + b"<testcase/>" * 5_000 + b"</s>" for n in range(20)}
            ),
        ),
    ],
)
def test_a_crowd_of_cases_takes_no_memory(name: str, found: TestOutput) -> None:
    tracemalloc.start()
    try:
        reading = read_results(name, found)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (reading.score, len(reading.tests)) == (5_000, 5_000)
    assert reading.notes == ["only the first 5,000 tests kept"]
    # All of them kept would take 30 MB.
    assert peak < 20_000_000


def test_a_long_word_is_soon_passed_over() -> None:
    """As all threads of the executor wait while a pattern is looked for."""
    started = time.process_time()
    reading = read_results("autolab", TestOutput(files={}, stdout=b"{" + b"a" * 65_000))
    assert reading.score is None
    # Of CPU time, not by the clock: once it took thirty seconds, and now a millisecond.
    assert time.process_time() - started < 5


def test_tests_are_read_behind_any_number_of_lines_without_one() -> None:
    lines = ['{"event": "start"}', '{"name": "a", "score": 0, "max_score": 1}'] * (2 * MAX_OTHERS)
    reading = read_results("stream", _stream_of(lines))
    assert (reading.score, reading.max_score) == (0, 2 * MAX_OTHERS)


@pytest.mark.parametrize("other", ['{"planned": {"name": 1}}', '{"name"'])
def test_lines_that_only_look_like_tests_end_the_reading(other: str) -> None:
    wanted = '{"name": "a", "score": 1}'
    with pytest.raises(HarnessError, match="more than 2,000 lines without a test"):
        read_results("stream", _stream_of([wanted, *[other] * 2 * MAX_OTHERS]))
    stream = TestStream()
    for line in [*[other] * 2 * MAX_OTHERS, wanted]:
        stream.feed(line)
    assert not stream.tests


def _stream_of(lines: list[str]) -> TestOutput:
    return TestOutput(files={DEFAULT_PATH: "\n".join(lines).encode()}, stdout=b"")


@pytest.mark.parametrize("end", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\r"])
def test_only_a_line_feed_ends_a_line(end: str) -> None:
    """A harness that repeats a student's word within a line gives away no line of its own."""
    said = f"not ok 1 - wrong answer{end}ok 2 - forged\r\nok 3 - right\n"
    tests = read_results("tap", TestOutput(files={}, stdout=said.encode())).tests
    assert [test.status for test in tests] == [Status.FAILED, Status.PASSED]
    name = f"a{end}b" if end > "\x7f" else "ab"
    line = json.dumps({"name": name, "score": 1}, ensure_ascii=False)
    found = TestOutput(files={"tests.jsonl": f"{line}\n{line}".encode()})
    assert len(read_results("stream", found).tests) == 2


def test_stdout_goes_by_the_exit_code() -> None:
    for code, score in ((0, 5.0), (1, 0.0), (None, 0.0)):
        found = TestOutput(files={}, stdout=b"hi", exit_code=code, full_score=5.0)
        reading = read_results("stdout", found)
        assert (reading.score, reading.max_score, reading.output) == (score, 5.0, "hi")


def test_a_file_that_is_not_there_says_why() -> None:
    with pytest.raises(HarnessError, match=r"wrote no results\.json.*exit code 3"):
        read_results("gradescope", TestOutput(files={}, exit_code=3))
    with pytest.raises(HarnessError, match="too large"):
        read_results("gradescope", TestOutput(files={}, left_out=("results.json",)))


def results(**changes: Any) -> Results:
    receipt = Receipt(
        assignment="sha256:a",
        assignment_name="a",
        submission="b",
        engine="0",
        sandbox="docker",
        forgeable=True,
    )
    whole: dict[str, Any] = {
        "outcome": Outcome.GRADED,
        "message": "m",
        "score": 1.0,
        "receipt": receipt,
    }
    return Results(**{**whole, **changes})


def test_stored_results_never_grow_over_the_limit() -> None:
    tests = [TestResult(name="n" * 500, output="é" * 60_000, score=1.0) for _ in range(5_000)]
    text = to_json(results(tests=tests, output="x" * 60_000), 1_000_000)
    assert len(text.encode()) <= 1_000_000
    stored = Results.model_validate_json(text)
    assert stored.score == 1.0
    assert "left out" in stored.notes[-1]
    small = results(tests=[TestResult(name="t", output="o")])
    assert Results.model_validate_json(to_json(small)) == small


KEYS = st.sampled_from(
    [
        *("score", "max_score", "tests", "output", "name", "status", "visibility", "number"),
        *("tags", "extra_data", "leaderboard", "value", "order", "execution_time", "x"),
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=30,
)


@settings(max_examples=300, deadline=None)
@given(value=JSON)
@example(value={"score": 1, "tests": [{"tags": [None, {"a": 1}], "extra_data": {"a": "\ud800"}}]})
def test_any_json_is_stored_or_refused(value: Any) -> None:
    try:
        reading = gradescope(json.dumps(value).encode())
    except HarnessError:
        return
    stored = to_json(
        results(
            score=reading.score,
            tests=reading.tests,
            extra_data=reading.extra_data,
            leaderboard=reading.leaderboard,
            notes=reading.notes,
            output=reading.output,
        )
    )
    assert "\x00" not in stored
    stored.encode("utf-8")
    Results.model_validate_json(stored)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=300), name=st.sampled_from(sorted(FORMATS)))
def test_any_bytes_are_stored_or_refused(data: bytes, name: str) -> None:
    files = {"results.json": data, "junit.xml": data}
    try:
        reading = read_results(name, TestOutput(files=files, stdout=data))
    except HarnessError:
        return
    to_json(results(tests=reading.tests, output=reading.output)).encode()


@pytest.mark.parametrize(
    ("printed", "of_a_character"),
    [
        (b"x", 1),
        (b"\xff", 1),
        (b"\xe2\x82", 1),
        (b"\0", 1),
        (b"\xed\xa0\x80", 1),
        (b"\xe2\x82\xac", 3),
    ],
)
def test_cut_characters_of_an_output_are_counted_as_printed(
    printed: bytes, of_a_character: int
) -> None:
    data = printed * 400
    said, kept = decode(data, 100).split("\n", 1)
    assert len(kept) == 100
    assert said == f"\u2026 cut: {len(data) - 100 * of_a_character:,} bytes before this"
