"""What students see of a verdict: never a word of what is hidden from them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job_engine.errors import ReplayRefusedError
from job_engine.grading.replay import results_to_replay
from job_engine.grading.results import (
    LeaderboardEntry,
    Outcome,
    PhaseSummary,
    Results,
    TestResult,
    Visibility,
    for_students,
    to_json,
    view_for_students,
)
from job_engine.grading.results.model import Image
from job_engine.model import Failure, FinalVerdict
from job_engine.sandbox.base import Verdict
from tests.support.receipts import make_receipt

DUE = datetime(2026, 3, 1, tzinfo=UTC)
BEFORE, AFTER = DUE - timedelta(seconds=1), DUE
SECRET = "xyzzy"
RECEIPT = make_receipt(images={"test": "id:sha256:c"})


def phase(name: str, visibility: Visibility, output: str) -> PhaseSummary:
    return PhaseSummary(
        name=name,
        verdict=Verdict.EXIT,
        message="exit code 7",
        exit_code=7,
        signal=None,
        wall_time_s=0.5,
        cpu_time_s=0.4,
        peak_memory_bytes=2**20,
        output=output,
        visibility=visibility,
    )


def a_test(visibility: Visibility, text: str, score: float = 1.0) -> TestResult:
    return TestResult(
        name=f"name {text}",
        score=score,
        max_score=4.0,
        output=f"output {text}",
        description=f"description {text}",
        message=f"message {text}",
        images=[Image(url=f"data:{text}")],
        tags=[text],
        extra_data={text: text},
        visibility=visibility,
    )


def results(*tests: TestResult, **changes: Any) -> Results:
    whole: dict[str, Any] = {
        "outcome": Outcome.GRADED,
        "verdict": FinalVerdict.WRONG_ANSWER,
        "fault": FinalVerdict.WRONG_ANSWER.fault,
        "message": "Score 5 of 8.",
        "score": 5.0,
        "max_score": 8.0,
        "tests": list(tests),
        "due": DUE,
        "receipt": RECEIPT,
    }
    return Results(**{**whole, **changes})


def text_of(value: Any, visibility: Visibility, now: datetime) -> str:
    """Return the text, marked where it must not be seen."""
    due = visibility is Visibility.AFTER_DUE_DATE and now >= DUE
    shown = visibility is Visibility.VISIBLE or due
    return f"{value} shown" if shown else f"{value} {SECRET}"


@given(
    st.lists(st.sampled_from(list(Visibility)), max_size=6),
    *[st.sampled_from(list(Visibility))] * 2,
    st.sampled_from(list(Outcome)),
    st.sampled_from([BEFORE, AFTER]),
)
def test_students_see_no_text_of_hidden_tests(
    tests: list[Visibility],
    whole: Visibility,
    stdout: Visibility,
    outcome: Outcome,
    now: datetime,
) -> None:
    of_whole = text_of("whole", whole, now)
    found = results(
        *(a_test(seen, text_of(n, seen, now)) for n, seen in enumerate(tests)),
        outcome=outcome,
        visibility=whole,
        output=of_whole,
        grader_message=of_whole,
        images=[Image(url=of_whole)],
        leaderboard=[LeaderboardEntry(name=of_whole, value=1)],
        scoreboard=[of_whole],
        extra_data={"staff": SECRET},
        notes=[SECRET],
        phases=[phase("test", stdout, text_of("printed", stdout, now))],
    )
    seen = view_for_students("grade", to_json(found), now)
    assert seen is not None
    assert seen.output is not None
    assert SECRET not in json.dumps([seen.output, seen.message])
    view = Results.model_validate_json(seen.output)
    assert [test.name for test in view.tests] == [
        test.name for test in found.tests if test.name.endswith("shown")
    ]
    # Nothing that is hidden can be counted back from what is not.
    if view.withheld:
        assert (view.score, view.max_score) == (None, None)
        assert view.outcome is not Outcome.GRADED or view.verdict is None
        assert "5" not in (seen.message or "")
        assert view.phases[0].exit_code is None
    else:
        assert (view.score, view.max_score) == (5.0, 8.0)
        assert len(view.tests) == len(tests)


@pytest.mark.parametrize("now", [BEFORE, AFTER])
def test_tests_hidden_until_the_due_date_are_shown_after_it(now: datetime) -> None:
    found = results(a_test(Visibility.AFTER_DUE_DATE, "late"))
    seen = for_students(found, now)
    assert (len(seen.tests), seen.withheld) == ((1, False) if now is AFTER else (0, True))
    assert not for_students(found.model_copy(update={"due": None}), AFTER).tests


def test_tests_hidden_until_publication_are_for_staff() -> None:
    assert not for_students(results(a_test(Visibility.AFTER_PUBLISHED, "x")), AFTER).tests


def test_a_limit_is_told_also_where_a_hidden_test_met_it() -> None:
    found = results(
        a_test(Visibility.HIDDEN, SECRET),
        outcome=Outcome.LIMIT,
        verdict=FinalVerdict.TIME_LIMIT,
    )
    seen = for_students(found, AFTER)
    assert seen.verdict is FinalVerdict.TIME_LIMIT
    assert "limit" in seen.message
    assert "Score" not in seen.message


@pytest.mark.parametrize(
    ("verdict", "shown"),
    [
        (FinalVerdict.SUBMISSION_REFUSED, True),
        (FinalVerdict.IMAGE_MISSING, True),
        (FinalVerdict.ASSIGNMENT_REFUSED, False),
        (FinalVerdict.ENGINE_FAILED, False),
    ],
)
def test_why_an_assignment_or_the_engine_failed_is_for_staff(
    verdict: FinalVerdict, shown: bool
) -> None:
    output = Failure.of(verdict, f"because {SECRET}").model_dump_json()
    seen = view_for_students("grade", output, AFTER)
    assert seen is not None
    assert (SECRET in str(seen.output)) is shown
    assert (seen.message is None) is shown
    assert Failure.model_validate_json(str(seen.output)).verdict is verdict


@pytest.mark.parametrize(
    ("action", "output"),
    [
        ("grade", '{"tests": [{"name": "xyzzy"}]}'),
        ("grade", "{xyzzy"),
        ("grade", '{"outcome": "graded", "xyzzy": 1}'),
        ("my-grade", '  {"receipt": {}, "xyzzy": 1}'),
    ],
)
def test_a_verdict_that_cannot_be_read_is_not_shown(action: str, output: str) -> None:
    seen = view_for_students(action, output, AFTER)
    assert seen is not None
    assert seen.output is None
    assert SECRET not in str(seen.message)


@pytest.mark.parametrize("action", ["grade", "noop"])
@pytest.mark.parametrize("output", ["done", "[1]", "7", '"{"', ""])
def test_any_other_output_is_nobodys_verdict(action: str, output: str) -> None:
    assert view_for_students(action, output, AFTER) is None
    assert view_for_students("noop", '{"rows": 3}', AFTER) is None


def test_a_verdict_of_any_other_action_is_one_too() -> None:
    seen = view_for_students("lab", to_json(results(a_test(Visibility.HIDDEN, SECRET))), AFTER)
    assert seen is not None
    assert SECRET not in str(seen)


def test_partly_hidden_results_are_not_compared_with_a_replay() -> None:
    seen = for_students(results(a_test(Visibility.HIDDEN, SECRET)), AFTER)
    job = {"id": "job/1", "action": "grade", "state": "SUCCESS", "output": to_json(seen)}
    with pytest.raises(ReplayRefusedError, match="not shown to you"):
        results_to_replay(job)
