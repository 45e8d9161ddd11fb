"""Dealing out turns: by virtual time, by weight, and to nobody who has nothing waiting."""

from __future__ import annotations

from collections import Counter

from job_engine.store.fair_share.turns import Key, Lane, deal


def lane(
    share: str, virtual_s: float = 0.0, weight: float = 1.0, waiting: int | None = None
) -> Lane:
    return Lane(Key("noop", 5, share, 2), virtual_s, weight, waiting)


def shares(order: list[Lane]) -> str:
    return "".join(found.key.share for found in order)


def test_equal_lanes_take_turns() -> None:
    assert shares(deal([lane("a"), lane("b"), lane("c")], 7, 1.0)) == "abcabca"


def test_the_share_with_the_smallest_virtual_time_is_first() -> None:
    assert shares(deal([lane("a", 3.0), lane("b", 0.5)], 6, 1.0)) == "bbbaba"


def test_turns_follow_the_weights() -> None:
    order = deal([lane("a", weight=3.0), lane("b", weight=1.0)], 400, 1.0)
    assert Counter(shares(order)) == {"a": 300, "b": 100}
    # All along, and not only in the end.
    assert Counter(shares(order[:40])) == {"a": 30, "b": 10}


def test_nobody_has_more_turns_than_jobs() -> None:
    assert shares(deal([lane("a", waiting=1), lane("b", waiting=0), lane("c")], 4, 1.0)) == "accc"
    assert deal([lane("a", waiting=2)], 5, 1.0) == deal([lane("a", waiting=2)], 2, 1.0)
    assert deal([], 5, 1.0) == []
