"""The arithmetic of waiting, as tables."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job_engine.store.fair_share.starts import SLOT_MS
from job_engine.store.fair_share.turns import Key, Lane, deal
from job_engine.store.fair_share.waiting import (
    OtherLane,
    ahead_in_queue,
    extrapolated,
    start_rate,
    turns_before,
)


@pytest.mark.parametrize(
    ("until_s", "lane", "turns"),
    [
        (0, OtherLane(9, 0, 1), 0),
        (0, OtherLane(9, 0, 1, before=True), 1),
        (3, OtherLane(9, 0, 1), 3),
        (3, OtherLane(9, 0, 1, before=True), 4),
        (3, OtherLane(2, 0, 1), 2),
        (3, OtherLane(9, 0, 2), 6),
        (3, OtherLane(9, 2.5, 1), 1),
        (3, OtherLane(9, 4, 1), 0),
        (3, OtherLane(None, 0, 1), 3),
        (0.8, OtherLane(9, 0.5, 10), 3),  # and not one more for a last digit
    ],
)
def test_turns_before(until_s: float, lane: OtherLane, turns: int) -> None:
    assert turns_before(until_s, lane, 1.0) == turns


def test_turns_without_cost_never_yield() -> None:
    assert turns_before(1, OtherLane(5, 0, 1), 0) == 5
    assert turns_before(1, OtherLane(5, 2, 1), 0) == 0


@given(
    own_s=st.integers(0, 40),
    own_ahead=st.integers(0, 8),
    lanes=st.lists(st.tuples(st.integers(0, 40), st.sampled_from([1, 2, 4]), st.integers(1, 9))),
    own_weight=st.sampled_from([1, 2, 4]),
)
def test_positions_are_those_of_the_feed(
    own_s: int, own_ahead: int, lanes: list[tuple[int, int, int]], own_weight: int
) -> None:
    cost_s = 4.0
    mine = Lane(Key("a", 0, "mine", 2), own_s, own_weight, own_ahead + 1)
    others = [Lane(Key("a", 0, "x", 2), s, weight, n) for s, weight, n in lanes]
    half = len(others) // 2  # some that win where it is a draw, and some that lose
    dealt = deal([*others[:half], mine, *others[half:]], 1000, cost_s)
    last = max(n for n, lane in enumerate(dealt) if lane is mine)
    known = [OtherLane(n, s, w, before=i < half) for i, (s, w, n) in enumerate(lanes)]
    assert ahead_in_queue(own_ahead, own_s, own_weight, cost_s, known) == last


NOW = 1_000 * SLOT_MS


@pytest.mark.parametrize(
    ("slots", "now_ms", "since_ms", "rate"),
    [
        ({}, NOW, NOW, None),
        ({900: 50}, NOW, NOW, None),  # too long ago
        ({999: 50}, NOW, NOW, 5.0),
        ({998: 50, 999: 50}, NOW, NOW - 20_000, 5.0),
        # Nothing waited then, as far as anybody knows: an empty slot says nothing.
        ({990: 50}, NOW, NOW, 5.0),
        # Somebody has waited ever since, and nothing moved.
        ({990: 50}, NOW, NOW - 100_000, pytest.approx(0.28, abs=0.01)),
        ({1000: 10}, NOW + 5_000, NOW, 2.0),
        ({1000: 3}, NOW + 10, NOW, 3.0),  # too short a time to measure
    ],
)
def test_rates(slots: Mapping[int, int], now_ms: int, since_ms: int, rate: float | None) -> None:
    assert start_rate(slots, now_ms, since_ms) == rate


def test_recent_starts_weigh_more() -> None:
    faster = start_rate({980: 10, 999: 100}, NOW, NOW)
    slower = start_rate({980: 100, 999: 10}, NOW, NOW)
    assert faster is not None
    assert slower is not None
    assert faster > 2 * slower


@pytest.mark.parametrize(
    ("seq", "ahead"),
    [(30, 10), (31, 10), (41, 15), (1031, 510)],
)
def test_a_lane_goes_on_as_it_began(seq: int, ahead: int) -> None:
    assert extrapolated(10, 11, 30, seq) == ahead
