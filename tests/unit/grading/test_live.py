"""What is told while a run goes on: each to whom it is for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import pytest

from job_engine.grading.assemble import assemble, hidden_phases
from job_engine.grading.live import Live
from job_engine.grading.results import Visibility
from job_engine.sandbox.base import FileGrew, PhaseOutput, Verdict
from tests.unit.grading.test_pipeline import RECEIPT, ended, load, plan

TEXT: Final = """\
name: sort
image: course:1
phases: {test: run}
results: {format: stream, path: '-', output_visible: true}
"""
OPEN: Final = b'{"name": "open", "score": 1}\n'
HIDDEN: Final = b'{"name": "xyzzy", "score": 1, "visibility": "hidden"}\n'
FILE: Final = TEXT.replace("path: '-'", "path: tests.jsonl")


class Told:
    """Events, as students and as staff get them."""

    def __init__(self, text: str = TEXT) -> None:
        assignment = load(text)
        self.students: list[tuple[str, Mapping[str, Any]]] = []
        self.live = Live(assignment, self._emit, hidden_phases(plan(assignment), assignment))

    def _emit(self, kind: str, data: Mapping[str, Any], *, staff: bool = False) -> None:
        if not staff:
            self.students.append((kind, data))

    def prints(self, *pieces: bytes) -> str:
        """Return what students are told of what the tests print."""
        for piece in pieces:
            self.live.printed(PhaseOutput("test", piece))
        self.live.ended(ended("test"), "done")
        return json.dumps(self.students)


def test_visible_output_is_told_until_a_hidden_test_is_in_it() -> None:
    told = Told().prints(b"hello\n" + OPEN, HIDDEN, b"of xyzzy\n")
    assert "hello" in told
    assert '"test", {"name": "open"' in told
    assert "xyzzy" not in told


@pytest.mark.parametrize("end", [HIDDEN[:-8], HIDDEN[:30] + b"x" * 10_000])
def test_half_a_line_may_be_a_hidden_test(end: bytes) -> None:
    assert "xyzzy" not in Told().prints(OPEN, end)


def test_an_exit_code_is_told_where_the_output_is() -> None:
    for shown, text in ((True, TEXT), (False, TEXT.replace("output_visible: true", ""))):
        told = Told(text)
        message = told.live.ended(ended("test", Verdict.EXIT), "exit code 2")
        assert ("exit code 2" in message) is shown
        (event,) = (data for kind, data in told.students if kind == "phase")
        assert (event["verdict"] == "exit") is shown
    limit = Told(text).live.ended(ended("test", Verdict.MEMORY), "too much memory")
    assert limit == "too much memory"


@pytest.mark.parametrize(
    ("printed", "verdict", "visibility"),
    [
        (OPEN, Verdict.OK, Visibility.VISIBLE),
        (OPEN + HIDDEN, Verdict.OK, Visibility.HIDDEN),
        (OPEN + HIDDEN[:-8], Verdict.WALL_TIME, Visibility.HIDDEN),
        (HIDDEN[:-8], Verdict.OK, Visibility.HIDDEN),
    ],
)
def test_stored_output_is_for_staff_if_a_test_is_hidden(
    printed: bytes, verdict: Verdict, visibility: Visibility
) -> None:
    assignment = load(TEXT)
    phases = {"test": ended("test", verdict, stdout=printed, stderr=b"")}
    results = assemble(assignment, plan(assignment), phases, RECEIPT)
    assert results.phases[-1].visibility is visibility


def in_file(*pieces: bytes, then: bytes = b"", verdict: Verdict = Verdict.OK) -> list[str]:
    """Return the tests that students are told of: the file grew by pieces, and held more."""
    told = Told(FILE)
    for piece in pieces:
        told.live.grew(FileGrew("test", piece))
    files = {"results/tests.jsonl": b"".join(pieces) + then}
    told.live.ended(ended("test", verdict, files=files), "done")
    assert told.students[-1][0] == "phase"
    return [data["name"] for kind, data in told.students if kind == "test"]


def line(name: str, **fields: object) -> bytes:
    return json.dumps({"name": name, **fields}).encode() + b"\n"


def test_each_test_of_a_file_is_told_once_to_whom_it_is_for() -> None:
    assert in_file(OPEN[:9], OPEN[9:] + HIDDEN + b"no json\n\n", then=line("late")) == [
        "open",
        "late",
    ]
    assert in_file(then=OPEN) == ["open"]


def test_the_last_line_needs_no_end_unless_the_run_was_cut_short() -> None:
    assert in_file(OPEN, line("last")[:-1]) == ["open", "last"]
    assert in_file(OPEN, line("last")[:-1], verdict=Verdict.WALL_TIME) == ["open"]


def test_a_file_is_told_of_while_it_grows_and_not_after_a_kill() -> None:
    told = Told(FILE)
    told.live.grew(FileGrew("test", OPEN + line("begun")[:-1]))
    told.live.ended(ended("test", Verdict.KILLED), "killed")
    assert [data["name"] for kind, data in told.students if kind == "test"] == ["open"]


def test_a_flood_in_a_file_is_told_up_to_a_limit() -> None:
    assert in_file(b"\0" * 100_000, b"\0" * 100_000, b"\n" + OPEN) == ["open"]
    assert len(in_file(line("x") * 3_000)) == 2_000
    assert in_file(b"\n" * 100_000, OPEN, then=OPEN) == []


@pytest.mark.parametrize(
    ("results", "file"),
    [
        ("{format: stream}", "tests.jsonl"),
        ("{format: stream, path: a/b}", "a/b"),
        ("{format: gradescope, stream: t.jsonl}", "t.jsonl"),
        ("{format: gradescope}", None),
        ("{format: stream, path: '-'}", None),
        ("{format: gradescope, stream: '-'}", None),
        ("{format: tap, stream: t.jsonl}", None),
        ("{format: tap, path: t.tap, stream: t.jsonl}", "t.jsonl"),
    ],
)
def test_the_file_with_the_tests_is_followed(results: str, file: str | None) -> None:
    text = f"name: sort\nimage: course:1\nphases: {{test: run}}\nresults: {results}\n"
    [spec] = plan(load(text)).phases
    assert (spec.follow.path if spec.follow is not None else None) == file
