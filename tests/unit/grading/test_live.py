"""What is told while a run goes on: each to whom it is for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import pytest

from job_engine.grading.assemble import assemble, hidden_phases
from job_engine.grading.live import Live
from job_engine.grading.results import Visibility
from job_engine.sandbox.base import PhaseOutput, Verdict
from tests.unit.grading.test_pipeline import RECEIPT, ended, load, plan

TEXT: Final = """\
name: sort
image: course:1
phases: {test: run}
results: {format: stream, path: '-', output_visible: true}
"""
OPEN: Final = b'{"name": "open", "score": 1}\n'
HIDDEN: Final = b'{"name": "xyzzy", "score": 1, "visibility": "hidden"}\n'


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
def test_what_is_stored_of_it_is_for_staff_with_a_hidden_test(
    printed: bytes, verdict: Verdict, visibility: Visibility
) -> None:
    assignment = load(TEXT)
    phases = {"test": ended("test", verdict, stdout=printed, stderr=b"")}
    results = assemble(assignment, plan(assignment), phases, RECEIPT)
    assert results.phases[-1].visibility is visibility
