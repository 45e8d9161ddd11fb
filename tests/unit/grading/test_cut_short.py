"""What tests had finished before a limit, a crash or a kill counts, and is shown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from job_engine.grading.assemble import assemble
from job_engine.grading.flavours import BUILT_IN
from job_engine.grading.plan import make_plan
from job_engine.grading.policy import load_assignment
from job_engine.grading.results import Outcome, Results
from job_engine.grading.results.stream import TestStream
from job_engine.model import FinalVerdict
from job_engine.sandbox.base import Verdict
from job_engine.settings import GradingSettings, SandboxSettings
from tests.unit.grading.test_pipeline import RECEIPT, ended

FIRST = {"name": "one", "score": 2, "max_score": 2}
SECOND = {"name": "two", "score": 0, "max_score": 1, "output": "no", "visibility": "hidden"}
LINES = f"{json.dumps(FIRST)}\n{json.dumps(SECOND)}\n"


def graded(spec: str, verdict: Verdict = Verdict.WALL_TIME, **test: Any) -> Results:
    text = f"name: a\nphases: {{test: x}}\nresults: {spec}\n"
    assignment = load_assignment(text.encode(), BUILT_IN, SandboxSettings())
    plan = make_plan(assignment, None, BUILT_IN, GradingSettings())
    return assemble(assignment, plan, {"test": ended("test", verdict, **test)}, RECEIPT)


@pytest.mark.parametrize(
    ("spec", "test", "points", "names"),
    [
        # The stream: a half line is none, and a header says what all would be worth.
        ("{format: stream}", LINES + '{"name": "thr', (2, None), ["one", "two"]),
        ("{format: stream}", '{"max_score": 9}\n' + LINES, (2, 9), ["one", "two"]),
        ("{format: stream, max_score: 5}", LINES, (2, 5), ["one", "two"]),
        ("{format: stream}", '{"planned": 3}\n' + LINES, (2, None), ["one", "two", "Test 3"]),
        ("{format: gradescope, stream: tests.jsonl}", LINES, (2, None), ["one", "two"]),
        ("{format: gradescope, stream: other.jsonl}", LINES, (0, None), []),
        ("{format: gradescope}", LINES, (0, None), []),
    ],
)
def test_streams(
    spec: str, test: str, points: tuple[float, float | None], names: list[str]
) -> None:
    results = graded(spec, files={"results/tests.jsonl": test.encode()}, exit_code=None, signal=9)
    assert (results.outcome, results.verdict) == (Outcome.LIMIT, FinalVerdict.TIME_LIMIT)
    assert (results.score, results.max_score) == points
    assert [item.name for item in results.tests] == names
    assert ("What had finished before counts" in results.message) == bool(names)


@pytest.mark.parametrize(
    ("printed", "points", "names"),
    [
        ("1..4\nok 1 a\nnot ok 2 b\nok 3", (1, 4), ["a", "b", "Test 3", "Test 4"]),
        ("ok 1 a\nok 2 b\n", (2, None), ["a", "b"]),
        ("ok 1 a", (0, None), []),
        ("", (0, None), []),
    ],
)
def test_tap(printed: str, points: tuple[float, float | None], names: list[str]) -> None:
    results = graded("{format: tap}", stdout=printed.encode())
    assert (results.score, results.max_score) == points
    assert [item.name for item in results.tests] == names


def test_cases_of_a_junit_file_that_are_closed() -> None:
    xml = b'<testsuite><testcase name="a"/><testcase name="b"><failure/></testcase><testcase n'
    results = graded("{format: junit}", files={"results/r.xml": xml})
    assert (results.score, results.max_score) == (1, None)
    assert [item.status for item in results.tests] == ["passed", "failed"]


def test_tests_of_a_results_file_count_but_not_what_it_says_of_the_whole() -> None:
    document = {"score": 100, "tests": [FIRST, SECOND]}
    files = {"results/results.json": json.dumps(document).encode()}
    results = graded("{format: gradescope}", Verdict.MEMORY, files=files)
    assert (results.score, results.max_score) == (2, 3)
    assert results.verdict is FinalVerdict.MEMORY_LIMIT


def test_streamed_tests_survive_a_crash() -> None:
    files = {"results/tests.jsonl": LINES.encode()}
    crashed = graded("{format: stream}", Verdict.SIGNAL, exit_code=None, signal=11, files=files)
    assert (crashed.verdict, crashed.score) == (FinalVerdict.RUNTIME_ERROR, 2)
    assert "SIGSEGV" in crashed.message


def test_a_harness_that_fails_shows_what_it_had_streamed_without_a_score() -> None:
    spec = "{format: gradescope, stream: tests.jsonl}"
    results = graded(spec, Verdict.EXIT, files={"results/tests.jsonl": LINES.encode()})
    assert (results.verdict, results.score) == (FinalVerdict.HARNESS_FAILED, None)
    assert [item.name for item in results.tests] == ["one", "two"]


def test_a_stream_of_a_run_that_ended_is_its_results() -> None:
    files = {"results/tests.jsonl": (LINES + json.dumps(FIRST)).encode()}
    results = graded("{format: stream}", Verdict.OK, files=files)
    assert (results.outcome, results.score, results.max_score) == (Outcome.GRADED, 4, 5)
    assert results.verdict is FinalVerdict.WRONG_ANSWER


def test_a_stream_on_standard_output_is_among_other_lines() -> None:
    results = graded(
        "{format: stream, path: '-'}", Verdict.OK, stdout=f"hello\n[]\n\n{LINES}".encode()
    )
    assert [item.name for item in results.tests] == ["one", "two"]
    assert any("no JSON object" in note for note in results.notes)


@pytest.mark.parametrize("spec", ["stream", "tap", "stdout", "junit", "gradescope"])
@pytest.mark.parametrize("data", [b"\xff\x00\n\xff", b"[" * 5000 + b"\n", b"1..99999999\n", b""])
def test_nothing_that_was_cut_short_breaks_a_reader(spec: str, data: bytes) -> None:
    files = {f"results/{name}": data for name in ("tests.jsonl", "results.json", "r.xml")}
    results = graded(f"{{format: {spec}}}", files=files, stdout=data)
    assert results.score == 0


def test_a_stream_without_end_is_bounded() -> None:
    stream = TestStream()
    for _ in range(6_000):
        stream.feed('{"name": "a"}')
    assert len(stream.tests) == 5_001
