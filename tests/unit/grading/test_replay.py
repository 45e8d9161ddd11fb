"""What a replay asks for, and what it calls different."""

from __future__ import annotations

import json
from typing import Any

import pytest

from job_engine.errors import ReplayRefusedError
from job_engine.grading.replay import differences, replay_payload, results_to_replay
from job_engine.grading.results import Outcome, Results, TestResult
from job_engine.grading.results.model import Status
from job_engine.grading.submission import GradePayload
from job_engine.model import FinalVerdict
from tests.unit.grading.test_pipeline import RECEIPT

COMMIT = "1" * 40
KEPT = RECEIPT.model_copy(
    update={
        "assignment": f"sha256:{'a' * 64}",
        "submission": COMMIT,
        "tests": "sha256:t",
        "images": {"test": "image:sha256:i"},
        "limits": {"test": {"cpus": 1.0, "memory_bytes": 5}},
    }
)


def results(**changes: Any) -> Results:
    whole: dict[str, Any] = {
        "outcome": Outcome.GRADED,
        "verdict": FinalVerdict.WRONG_ANSWER,
        "message": "m",
        "score": 1.0,
        "max_score": 2.0,
        "execution_time": 0.5,
        "tests": [
            TestResult(name="a", score=1.0, max_score=1.0, status=Status.PASSED, output="0.1 s"),
            TestResult(name="b", score=0.0, max_score=1.0, status=Status.FAILED),
        ],
        "receipt": KEPT,
    }
    return Results(**{**whole, **changes})


def job(payload: object, **changes: Any) -> dict[str, Any]:
    known = {"id": "job/1", "action": "grade", "state": "SUCCESS", "payload": json.dumps(payload)}
    return {**known, "output": results().model_dump_json(), **changes}


def test_a_replay_pins_what_the_receipt_names() -> None:
    git = {"url": "https://example.org/a", "ref": "main", "credential": "course"}
    payload = {"assignment": "sort", "submission": {"git": git}, "student": "ada"}
    made = replay_payload(job(payload), results_to_replay(job(payload)))
    assert made["assignment"] == KEPT.assignment
    assert made["submission"] == {
        "git": {"url": "https://example.org/a", "commit": COMMIT, "credential": "course"}
    }
    assert made["student"] == "ada"
    assert made["replay"]["images"] == KEPT.images
    assert made["replay"]["limits"] == KEPT.limits
    GradePayload.model_validate(made)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"action": "noop"}, "no grade job"),
        ({"output": '{"verdict":"image-missing","fault":"platform","message":"x"}'}, "no results"),
        ({"output": ""}, "no results"),
        (
            {"output": results(receipt=RECEIPT).model_dump_json()},
            "does not say enough to replay it",
        ),
    ],
)
def test_a_refused_replay_has_the_reason(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ReplayRefusedError, match=told):
        results_to_replay(job({}, **changes))


def test_times_and_outputs_are_no_difference() -> None:
    again = results(execution_time=9.0, message="other")
    slower = again.tests[0].model_copy(update={"output": "0.2 s"})
    assert (
        differences(results(), again.model_copy(update={"tests": [slower, again.tests[1]]})) == []
    )


def test_every_difference_is_told() -> None:
    first, second = results().tests
    passed = second.model_copy(update={"score": 1.0, "status": Status.PASSED})
    now = results(score=2.0, verdict=FinalVerdict.ACCEPTED, tests=[first, passed, first])
    assert differences(results(), now) == [
        "verdict wrong-answer then, accepted now",
        "score 1 then, 2 now",
        "test 'b': score 0 then, 1 now",
        "test 'b': status failed then, passed now",
        "test 'a': only now",
    ]
