"""How many slots wait: a table of times, rates and budgets."""

from __future__ import annotations

import pytest

from job_engine.sandbox.demand import IDLE_S, LEAD_S, WINDOW_S, Demand, Wish, allot


def steady(period_s: float, count: int, prepare_s: float) -> tuple[Demand, float]:
    """Return a demand of so many arrivals, and the moment of the last."""
    demand = Demand()
    demand.prepared(prepare_s)
    for n in range(count):
        demand.arrive(n * period_s)
    return demand, (count - 1) * period_s


def test_the_rate_follows_arrivals_and_decays() -> None:
    demand, now = steady(0.5, 400, 1.0)
    assert demand.rate(now) == pytest.approx(2.0, rel=0.05)
    assert demand.rate(now + WINDOW_S) == pytest.approx(2.0 / 2.718, rel=0.05)


@pytest.mark.parametrize(
    ("period_s", "prepare_s", "wanted"),
    [(1.0, 0.01, 1), (1.0, 0.5, 2), (0.1, 1.0, 17), (100.0, 1.0, 1)],
)
def test_enough_wait_for_what_comes_while_one_is_made(
    period_s: float, prepare_s: float, wanted: int
) -> None:
    demand, now = steady(period_s, 5000, prepare_s)
    assert demand.wanted(now, 100) == wanted
    assert demand.wanted(now, 2) == min(wanted, 2)


def test_a_kind_with_one_request_gets_no_warm_slot() -> None:
    demand, now = steady(1.0, 1, 1.0)
    assert demand.wanted(now, 4) == 0
    demand.arrive(now + 60)
    assert demand.wanted(now + 60, 4) == 1


def test_none_waits_for_ever() -> None:
    demand, now = steady(1.0, 100, 1.0)
    assert demand.wanted(now + IDLE_S, 4) == 1
    assert demand.wanted(now + IDLE_S + 1, 4) == 0
    assert demand.forgotten(now + IDLE_S + 1)


def test_a_due_date_warms_up_ahead_of_it() -> None:
    demand, _ = steady(1.0, 1, 1.0)
    due = 100_000.0
    demand.expect(due)
    assert demand.wanted(due - LEAD_S - 1, 4) == 0
    assert not demand.forgotten(due - LEAD_S - 1)
    assert demand.wanted(due - LEAD_S, 4) == 4
    assert demand.wanted(due + LEAD_S, 4) == 4
    assert demand.wanted(due + LEAD_S + 1, 4) == 0


@pytest.mark.parametrize(
    ("slots", "memory_bytes", "given"),
    [
        (0, 1000, [0, 0, 0]),
        (10, 0, [0, 0, 0]),
        (2, 1000, [0, 1, 1]),  # the least in demand goes without
        (3, 1000, [1, 1, 1]),
        (4, 1000, [1, 1, 2]),
        (10, 1000, [1, 2, 3]),
        (10, 35, [1, 0, 2]),  # the second in demand is too large for what is left
    ],
)
def test_the_budget_goes_to_the_kinds_with_most_demand(
    slots: int, memory_bytes: int, given: list[int]
) -> None:
    wishes = [Wish(1, 10, rate=0.1), Wish(2, 30, rate=1.0), Wish(3, 10, rate=5.0)]
    assert allot(wishes, slots, memory_bytes) == given
