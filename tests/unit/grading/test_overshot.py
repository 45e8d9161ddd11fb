"""How long is too long, and what is worth a second run."""

from __future__ import annotations

import pytest

from job_engine.grading.verdicts import exceeded_time, with_time_verdict
from job_engine.sandbox.base import Limits, Verdict
from tests.unit.grading.test_pipeline import ended, load, plan

LIMITS = Limits(wall_time_s=10, cpu_time_s=5, overrun=0.1)


@pytest.mark.parametrize(
    ("verdict", "wall_s", "cpu_s", "held", "again"),
    [
        (Verdict.OK, 10.0, 5.0, Verdict.OK, False),
        (Verdict.OK, 10.01, 1.0, Verdict.WALL_TIME, True),
        (Verdict.EXIT, 10.99, 1.0, Verdict.WALL_TIME, True),
        (Verdict.OK, 9.0, 5.01, Verdict.CPU_TIME, True),
        (Verdict.SIGNAL, 9.0, 5.4, Verdict.CPU_TIME, True),
        # It was ended: by the time itself, a tenth too late, or by another limit.
        (Verdict.WALL_TIME, 11.01, 1.0, Verdict.WALL_TIME, False),
        (Verdict.CPU_TIME, 9.0, 5.51, Verdict.CPU_TIME, False),
        (Verdict.MEMORY, 10.5, 5.2, Verdict.MEMORY, False),
    ],
)
def test_times(verdict: Verdict, wall_s: float, cpu_s: float, held: Verdict, again: bool) -> None:
    result = ended("test", verdict, wall_time_s=wall_s, cpu_time_s=cpu_s)
    assert with_time_verdict(result, LIMITS).verdict is held
    assert exceeded_time(result, LIMITS) is again


def test_only_the_tests_may_go_over_their_time() -> None:
    made = plan(load())
    assert {phase.name: phase.limits.overrun for phase in made.phases} == {
        "build": 0.0,
        "test": 0.1,
        "report": 0.0,
    }
    assert made.limits("test").wall_time_kill_s == pytest.approx(5.5)
