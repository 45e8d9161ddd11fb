"""The score table: everything a person needs, nothing that could drive the terminal."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from job_engine.grading.render import safe, score_table
from job_engine.grading.results import (
    Outcome,
    PhaseSummary,
    Results,
    TestResult,
    Visibility,
)
from job_engine.grading.results.model import Status
from job_engine.sandbox.base import Verdict
from tests.support.receipts import make_receipt

EVIL = "\x1b]0;title\x07\x1b[2J[bold red]x[/]\r\u202egnp\x9b31m"


def results(**changes: Any) -> Results:
    phase = PhaseSummary(
        name="build",
        verdict=Verdict.EXIT,
        message="exit code 2",
        exit_code=2,
        signal=None,
        wall_time_s=0.5,
        cpu_time_s=0.4,
        peak_memory_bytes=2**20,
        output=f"error: {EVIL}",
        visibility=Visibility.VISIBLE,
    )
    whole: dict[str, Any] = {
        "outcome": Outcome.GRADED,
        "message": f"Score 1 of 2. {EVIL}",
        "score": 1.0,
        "phases": [phase],
        "tests": [
            TestResult(name=f"one {EVIL}", score=1.0, max_score=1.0, status=Status.PASSED),
            TestResult(name="two", output=EVIL, visibility=Visibility.HIDDEN),
        ],
        "notes": [EVIL],
        "output": EVIL,
        "receipt": make_receipt(assignment_name=EVIL, submission=EVIL, forgeable=True),
    }
    return Results(**{**whole, **changes})


def shown(value: Results, *, staff: bool = True, color: bool = False) -> str:
    out = io.StringIO()
    Console(file=out, width=200, no_color=not color, force_terminal=color).print(
        score_table(value, staff=staff)
    )
    return out.getvalue()


def test_hostile_text_is_shown_and_never_obeyed() -> None:
    text = shown(results())
    assert "\\x1b]0;title" in text
    assert "[bold red]x[/]" in text
    for char in "\x1b\x07\r\u202e\x9b":
        assert char not in text


def test_everything_is_there_for_staff_and_less_for_students() -> None:
    staff, student = shown(results()), shown(results(), staff=False)
    for word in ("build", "exit code 2", "1.0 MiB", "one", "1 / 1", "Score 1 of 2", "forged"):
        assert word in staff
    assert "two" in staff
    assert "two" not in student
    assert "note:" not in student
    # A total would give the hidden tests away.
    assert "Score 1 of 2" not in student


def test_long_text_is_cut() -> None:
    assert safe("\n".join("x" * 1000 for _ in range(100))).count("\n") == 20
    assert len(safe("x" * 10_000, lines=1)) <= 500
    assert safe("a\r\nb", lines=1) == "a\\x0d\\x0ab"
    assert safe("\x1b[31mred\x1b[0m and\ttab") == "red and tab"
