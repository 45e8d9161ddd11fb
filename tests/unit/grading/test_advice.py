"""Advice on flavours, from what was observed."""

from __future__ import annotations

import pytest

from job_engine.grading.advice import observe, smallest_that_fits
from job_engine.grading.flavours import BUILT_IN, MIB
from job_engine.grading.results import PhaseSummary, Results
from job_engine.sandbox.base import Verdict
from tests.unit.grading.test_replay import KEPT, results


def run(wall_s: float, cpu_s: float, memory_mib: int, verdict: Verdict = Verdict.OK) -> Results:
    phase = PhaseSummary(
        name="test",
        verdict=verdict,
        message="",
        exit_code=0,
        signal=None,
        wall_time_s=wall_s,
        cpu_time_s=cpu_s,
        peak_memory_bytes=memory_mib * MIB,
    )
    limits = {"test": {"wall_time_s": 60.0, "memory_bytes": 512 * MIB}}
    return results(phases=[phase], receipt=KEPT.model_copy(update={"limits": limits}))


def test_usage_is_reported_as_a_spread() -> None:
    runs = [run(float(n), n / 2, 10 * n) for n in range(1, 102)]
    [seen] = observe([*runs, run(66, 1, 1, Verdict.WALL_TIME)])
    assert (seen.phase, seen.runs, seen.at_a_limit) == ("test", 101, 1)
    assert (seen.wall_time_s.p50, seen.wall_time_s.p95, seen.wall_time_s.largest) == (51, 96, 101)
    assert seen.cpu_time_s.largest == 50.5
    assert seen.memory_bytes.p50 == 510 * MIB
    assert seen.limits["wall_time_s"] == 60


@pytest.mark.parametrize(
    ("wall_s", "cpu_s", "memory_mib", "flavour"),
    [
        (1, 1, 10, "small"),
        (20, 1, 10, "small"),
        (21, 1, 10, "standard"),  # with headroom it is more than 30 s
        (1, 7, 10, "standard"),
        (1, 1, 205, "standard"),
        (1, 1, 600, "large"),
        (401, 1, 10, None),
        (1, 1, 4_000, None),
    ],
)
def test_the_smallest_flavour_with_room(
    wall_s: float, cpu_s: float, memory_mib: int, flavour: str | None
) -> None:
    seen = observe([run(wall_s, cpu_s, memory_mib), run(0.1, 0.1, 1)])
    assert smallest_that_fits(seen, BUILT_IN) == flavour


def test_one_run_and_none() -> None:
    [seen] = observe([run(2, 1, 5)])
    assert seen.wall_time_s.p95 == 2
    assert smallest_that_fits(observe([]), BUILT_IN) == "small"
