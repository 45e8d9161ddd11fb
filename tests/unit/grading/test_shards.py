"""Shards: what an assignment may ask for, and how their results become one."""

from __future__ import annotations

from typing import Any

import pytest

from job_engine.errors import AssignmentError
from job_engine.grading.results import Outcome, Results, TestResult, Visibility
from job_engine.grading.results.model import Status
from job_engine.grading.shards import merge
from job_engine.model import FinalVerdict
from tests.unit.grading.test_pipeline import load
from tests.unit.grading.test_replay import results


@pytest.mark.parametrize(
    "phases",
    [
        "{test: {command: x, shards: 0}}",
        "{test: {command: x, shards: 17}}",
        "{test: {command: x, shards: 2}, report: y}",
    ],
)
def test_assignments_that_cannot_have_shards_are_refused(phases: str) -> None:
    with pytest.raises(AssignmentError, match="shards"):
        load(f"name: a\nphases: {phases}\nresults: {{format: tap}}\n")


def test_all_or_nothing_has_no_shards() -> None:
    with pytest.raises(AssignmentError, match="all or nothing"):
        load("name: a\nphases: {test: {command: x, shards: 2}}\nresults: {format: stdout}\n")


def part(name: str, score: float | None = 1.0, **changes: Any) -> Results:
    status = Status.PASSED if score else Status.FAILED
    test = TestResult(name=name, score=score, max_score=1.0, status=status, number="1")
    whole = {"tests": [test], "score": score, "max_score": 1.0, "output": f"of {name}"}
    return results(**{**whole, "verdict": FinalVerdict.ACCEPTED, **changes})


def test_results_come_in_the_order_of_the_shards() -> None:
    whole = merge([part("a"), part("b", 0.0), part("c")], None)
    assert [(test.name, test.number) for test in whole.tests] == [
        ("a", "1"),
        ("b", "2"),
        ("c", "3"),
    ]
    assert (whole.score, whole.max_score, whole.output) == (2, 3, "of a\nof b\nof c")
    assert (whole.verdict, whole.message) == (FinalVerdict.WRONG_ANSWER, "Score 2 of 3.")
    assert merge([part("a"), part("b")], None).verdict is FinalVerdict.ACCEPTED


def test_the_first_failed_shard_decides_the_fault() -> None:
    slow: dict[str, Any] = {
        "outcome": Outcome.LIMIT,
        "verdict": FinalVerdict.TIME_LIMIT,
        "message": "slow",
    }
    broken: dict[str, Any] = {
        "outcome": Outcome.HARNESS_FAILED,
        "verdict": FinalVerdict.HARNESS_FAILED,
    }
    whole = merge([part("a"), part("b", **slow), part("c", None, **broken)], 5.0)
    assert (whole.verdict, whole.message) == (FinalVerdict.TIME_LIMIT, "Shard 2: slow")
    assert (whole.score, whole.max_score) == (None, 5)  # What a harness never told has no sum.


def test_output_hidden_in_one_shard_is_hidden_in_all() -> None:
    parts = [part("a"), part("b", visibility="hidden"), part("c", visibility="after_due_date")]
    assert merge(parts, None).visibility is Visibility.HIDDEN


def test_the_limit_that_ended_a_program_is_the_verdict() -> None:
    lost = part("b", 0.0, verdict=FinalVerdict.MEMORY_LIMIT)
    whole = merge([part("a"), part("c", 0.0, verdict=FinalVerdict.WRONG_ANSWER), lost], None)
    assert whole.verdict is FinalVerdict.MEMORY_LIMIT


def test_a_maximum_that_tests_do_not_tell_is_the_assignments() -> None:
    bare = [TestResult(name="a", score=1.0)]
    assert merge([part("a", tests=bare, max_score=9.0)] * 2, 9.0).max_score == 9
    assert merge([part("a"), part("b")], 9.0).max_score == 2
