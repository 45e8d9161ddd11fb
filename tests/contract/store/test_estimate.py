"""Where jobs stand in line, over a real store."""

from __future__ import annotations

from typing import Any

import pytest

from job_engine.model import Fence, JobState
from job_engine.model.protocol.feed import EntryItem, Share
from job_engine.store.fair_share import estimate
from job_engine.store.fair_share.turns import Key
from job_engine.store.store import Store
from tests.contract.store.support import (
    ON_SQLITE,
    Clock,
    add,
    claim,
    document,
    entry,
    finish,
    plan,
    push,
)


def position(store: Store, job: str) -> int | None:
    found = store.estimates.of([job]).get(job)
    return None if found is None else found["queue-position"]


def add_many(store: Store, count: int, **more: Any) -> list[str]:
    return [d["id"] for d in store.jobs.add_many([document(**more) for _ in range(count)])]


def order_of_feed(store: Store, window: int) -> list[str]:
    return [item.job for item in store.feed.feed("noop", window).jobs]


def test_positions_are_the_order_of_the_feed(store: Store) -> None:
    store.shares.set_weight(Share(name="p/heavy", weight=3))
    waiting = [
        *add_many(store, 20, parent="p/a"),
        *add_many(store, 5, parent="p/heavy"),
        *add_many(store, 7, parent="p/c"),
        *add_many(store, 3, parent="p/c", priority=1),
    ]
    found = store.estimates.of(waiting)
    by_position = sorted(waiting, key=lambda job: found[job]["queue-position"])
    assert by_position == order_of_feed(store, 100)
    assert [found[job]["queue-position"] for job in by_position] == list(range(1, 36))


def test_jobs_in_the_window_come_first(store: Store, clock: Clock) -> None:
    first, second, third = add_many(store, 3)
    urgent = add(store, priority=1)
    for number, job in enumerate((second, first), start=1):
        assert store.feed.pushed([EntryItem(job=job, entry=entry(number))]) == [True]
    assert [position(store, job) for job in (second, first, third)] == [1, 2, 4]
    assert position(store, urgent) == 1


def test_a_share_that_was_served_waits_for_the_others(store: Store) -> None:
    mine = add_many(store, 4, parent="p/mine")
    other = add_many(store, 2, parent="p/other")
    push(store, mine[0])
    assert order_of_feed(store, 10) == [*other, *mine[1:]]
    assert [position(store, job) for job in (*other, *mine[1:])] == [2, 3, 4, 5, 6]


def test_jobs_that_are_not_in_line_have_no_position(store: Store, clock: Clock) -> None:
    later = add(store, not_before="2100-01-01T00:00:00.000Z")
    pulled = add(store, execution_mode="pull")
    over = add(store)
    store.jobs.cancel(over, lambda _: None, None)
    assert store.estimates.of([later, pulled, over, "job/none"]) == {}
    assert store.estimates.of([]) == {}


def test_the_wait_is_measured(store: Store, clock: Clock) -> None:
    waiting = add_many(store, 40)
    assert "estimated-wait" not in store.estimates.of(waiting)[waiting[0]]
    for n, job in enumerate(waiting[:20]):
        push(store, job, n)
        assert claim(store, job, entry(n), Fence(1, n + 1)).answer.runs
        clock.advance(1)
    waits = [store.estimates.of(waiting)[job]["estimated-wait"] for job in waiting[20:]]
    assert waits == pytest.approx(range(1, 21), abs=1)
    clock.advance(400)
    store.estimates.prune()
    assert "estimated-wait" not in store.estimates.of(waiting)[waiting[-1]]


def test_an_old_start_is_forgotten_and_a_new_one_is_not(store: Store, clock: Clock) -> None:
    job, waiting = add_many(store, 2)
    claim(store, job, entry(1), Fence(1, 1))
    finish(store, job, Fence(1, 1), JobState.SUCCESS)
    clock.advance(60)
    store.estimates.prune()
    assert "estimated-wait" in store.estimates.of([waiting])[waiting]


def test_a_position_beyond_the_jobs_that_are_read_is_approximately_right(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("_OWN", 20), ("_LANES", 4), ("_OTHERS", 40)):
        monkeypatch.setattr(estimate, name, value)
    documents = [document(parent=f"p/{n % 10}") for n in range(1000)]
    waiting = [d["id"] for d in store.jobs.add_many(documents)]
    for n in (0, 150, 500, 999):
        assert position(store, waiting[n]) == pytest.approx(n + 1, abs=20, rel=0.1), n


LANE = Key("noop", 999, "p/1", 2)


@ON_SQLITE
@pytest.mark.parametrize(
    ("statement", "indexes"),
    [
        (estimate.pushed_of.params(action="noop", most=50), ["jobs_waiting (action=?)"]),
        (
            estimate.first_of.params(**LANE._asdict(), most=50),
            ["jobs_ready (action=? AND priority=? AND share=? AND version=?)"],
        ),
        (
            estimate.count_urgent.params(**LANE.queue._asdict(), most=50),
            ["jobs_ready (action=? AND priority<?)"],
        ),
        (
            estimate.count_lanes.params(**LANE.queue._asdict(), most=50),
            ["lanes_order (action=? AND ready=? AND priority=?)"],
        ),
        (
            estimate.lanes_of.params(**LANE.queue._asdict(), most=50, counted=50),
            [
                "lanes_order (action=? AND ready=? AND priority=?)",
                "shares",
                "jobs_ready (action=? AND priority=? AND share=? AND version=?)",
            ],
        ),
        (
            estimate.own_lane.params(**LANE._asdict()),
            ["PRIMARY KEY (action=? AND priority=? AND share=? AND version=?)", "shares"],
        ),
    ],
)
def test_estimates_read_indexes_from_their_start(
    store: Store, statement: object, indexes: list[str]
) -> None:
    store.jobs.add_many([document(priority=n % 1000, parent=f"p/{n % 7}") for n in range(2000)])
    details = store.database.read(lambda c: plan(c, statement))
    assert not any("TEMP B-TREE" in detail for detail in details), details
    searched = [d for d in details if d.startswith("SEARCH")]
    assert len(searched) == len(indexes), details
    assert all(index in d for d, index in zip(searched, indexes, strict=True)), details
    # The rest only counts what the searches found, no more than their limit.
    rest = {d.split()[0] for d in details if d not in searched}
    assert rest <= {"CO-ROUTINE", "CORRELATED", "SCAN"}, details
    assert not any(d.startswith("SCAN") and "anon" not in d for d in details), details
