"""Fair share over a real store: who is next, what it costs, and what is forgotten."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select

from job_engine.model import Fence
from job_engine.model.protocol.actions import ActionDescription
from job_engine.model.protocol.claims import ReportKind
from job_engine.model.protocol.feed import EntryItem
from job_engine.store.fair_share import fairness
from job_engine.store.fair_share.turns import Key
from job_engine.store.jobs.edits import Edit
from job_engine.store.store import Store
from job_engine.store.tables import is_ready, jobs, lanes, shares
from tests.contract.store.support import (
    ON_SQLITE,
    Clock,
    add,
    claim,
    document,
    entry,
    finish,
    plan,
    report,
)


def describe(store: Store, cost_s: float, action: str = "noop") -> None:
    """Publish an action with a cost."""
    description = ActionDescription(name=action, payload_schema={}, timeout_s=60, cost=cost_s)
    store.actions.publish([description])


def weigh(store: Store, share: str, weight: float) -> None:
    store.database.write(lambda c: c.execute(insert(shares).values(name=share, weight=weight)))


def add_many(store: Store, share: str, count: int, **more: Any) -> list[str]:
    made = store.jobs.add_many([document(parent=share, **more) for _ in range(count)])
    return [job["id"] for job in made]


def fed(store: Store, window: int, version: int = 2) -> list[str]:
    return [item.job for item in store.feed.feed("noop", window, version).jobs]


def push(store: Store, found: list[str], first: int = 0) -> None:
    items = [EntryItem(job=job, entry=entry(first + n)) for n, job in enumerate(found)]
    assert all(store.feed.pushed(items))


def share_of(store: Store, job: str) -> str:
    return store.jobs.get_job(job).share


def open_lanes(store: Store) -> set[Key]:
    query = select(*lanes.c[Key._fields]).where(lanes.c.ready)
    return {Key(*row) for row in store.database.read(lambda c: c.execute(query).all())}


def ready_keys(store: Store) -> set[Key]:
    query = select(*jobs.c[Key._fields]).where(is_ready()).distinct()
    return {Key(*row) for row in store.database.read(lambda c: c.execute(query).all())}


@ON_SQLITE
def test_a_lane_is_opened_without_a_look_at_the_others(store: Store) -> None:
    values = {f"in_{name}": value for name, value in Key("noop", 5, "a", 2)._asdict().items()}
    statement = fairness.ensure_open.bindparams(**values)
    steps = store.database.read(lambda c: plan(c, statement))
    found = [step for step in steps if " lanes " in step]
    assert [step.partition(" USING ")[2] for step in found] == [
        "PRIMARY KEY (action=? AND priority=? AND share=?)",
        "INDEX lanes_order (action=? AND ready=? AND priority=?)",
        "PRIMARY KEY (action=? AND priority=? AND share=? AND version=?)",
    ], steps
    assert not any("TEMP B-TREE" in step for step in steps), steps


def test_a_small_share_is_not_behind_a_large_ones_backlog(store: Store) -> None:
    large = add_many(store, "course/large", 1000)
    push(store, fed(store, 50))
    small = add_many(store, "course/small", 3)
    # They have nothing in the queue yet, and the others have fifty.
    assert fed(store, 56) == [*small, *large[50:53]]


def test_turns_follow_weights_and_a_new_weight_holds_at_once(store: Store) -> None:
    add_many(store, "course/heavy", 400)
    add_many(store, "course/light", 400)
    weigh(store, "course/heavy", 3.0)
    found = fed(store, 100)
    assert Counter(share_of(store, job) for job in found) == {
        "course/heavy": 75,
        "course/light": 25,
    }


def test_the_measured_time_of_a_run_is_charged(store: Store, clock: Clock) -> None:
    describe(store, 1.0)
    (slow, *_) = add_many(store, "course/slow", 20)
    (quick, *_) = add_many(store, "course/quick", 20)
    push(store, [slow, quick])
    claim(store, slow, entry(0), Fence(1, 1))
    claim(store, quick, entry(1), Fence(1, 2))
    clock.advance(1)
    finish(store, quick, Fence(1, 2))
    clock.advance(9)
    finish(store, slow, Fence(1, 1))
    # Ten seconds against one: the quick one is nine jobs behind, and catches up first.
    found = [share_of(store, job) for job in fed(store, 12)]
    assert found[:9] == ["course/quick"] * 9
    assert set(found[9:]) == {"course/quick", "course/slow"}


def test_a_clock_that_was_put_right_meanwhile_keeps_nobody_from_a_turn(
    store: Store, clock: Clock
) -> None:
    describe(store, 1800.0)
    (unlucky, *_) = add_many(store, "course/unlucky", 20)
    add_many(store, "course/other", 20)
    push(store, [unlucky])
    claim(store, unlucky, entry(0), Fence(1, 1))
    clock.advance(365 * 86_400)
    finish(store, unlucky, Fence(1, 1))
    assert "course/unlucky" in [share_of(store, job) for job in fed(store, 6)]


def test_a_cancelled_backlog_costs_nothing(store: Store) -> None:
    describe(store, 1.0)
    backlog = add_many(store, "course/sorry", 100)
    push(store, fed(store, 40))
    for job in backlog:
        store.jobs.cancel(job, lambda _: None, None)
    (again,) = add_many(store, "course/sorry", 1)
    others = add_many(store, "course/other", 2)
    found = fed(store, 3)
    assert sorted(found) == sorted([again, *others])
    assert found.index(again) < 2


def test_debts_are_remembered_while_others_wait(store: Store, clock: Clock) -> None:
    describe(store, 1.0)
    add_many(store, "course/patient", 60)
    (first,) = add_many(store, "course/debtor", 1)
    push(store, [first])
    claim(store, first, entry(0), Fence(1, 1))
    clock.advance(50)
    finish(store, first, Fence(1, 1))
    add_many(store, "course/debtor", 5)
    assert {share_of(store, job) for job in fed(store, 30)} == {"course/patient"}


def test_idling_saves_no_turns(store: Store) -> None:
    describe(store, 1.0)
    add_many(store, "course/early", 100)
    push(store, fed(store, 40))
    add_many(store, "course/late", 100)
    # First as many as the others have in the queue, then in turns.
    found = Counter(share_of(store, job) for job in fed(store, 100))
    assert found == {"course/late": 50, "course/early": 10}


def test_a_newcomer_is_not_delayed_by_refunds_of_others(store: Store, clock: Clock) -> None:
    """The default cost is far beyond what these runs take."""
    add_many(store, "course/large", 200)
    first = fed(store, 20)
    push(store, first)
    small = add_many(store, "course/small", 5)
    for n, job in enumerate(first):
        claim(store, job, entry(n), Fence(1, n + 1))
        clock.advance(0.001)
        finish(store, job, Fence(1, n + 1))
    assert set(small) < set(fed(store, 20)[:10])


def test_a_window_of_what_nobody_can_run_blocks_nothing(store: Store) -> None:
    new = add_many(store, "course/new", 10, version=3)
    assert fed(store, 10, version=3) == new
    push(store, new)
    old = add_many(store, "course/new", 4)
    assert fed(store, 4, version=2) == old
    assert fed(store, 4, version=3) == []


def test_lanes_that_were_emptied_aside_are_met_once(store: Store) -> None:
    for n in range(30):
        for job in add_many(store, f"course/{n}", 1):
            store.jobs.cancel(job, lambda _: None, None)
    (kept,) = add_many(store, "course/kept", 1)
    assert len(open_lanes(store)) == 31
    assert fed(store, 2) == [kept]
    assert open_lanes(store) == ready_keys(store)


def test_ten_thousand_shares_are_dealt_one_turn_each(store: Store) -> None:
    made = store.jobs.add_many([document(parent=f"course/{n % 1000}") for n in range(3000)])
    found = fed(store, 500)
    assert len({share_of(store, job) for job in found}) == 500
    push(store, found)
    rest = fed(store, 1000)
    assert not {share_of(store, job) for job in rest} & {share_of(store, job) for job in found}
    assert len(made) == 3000


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "feed", "cancel", "run", "retry", "clear", "edit", "late"]),
        st.integers(0, 2),
    ),
    max_size=40,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=_STEPS)
def test_every_ready_job_has_its_lane(
    store: Store, clock: Clock, steps: list[tuple[str, int]]
) -> None:
    alive: list[str] = []
    for zxid, (step, n) in enumerate(steps, 1):
        job = alive[zxid % len(alive)] if alive else None
        if step == "add" or job is None:
            alive.append(add(store, parent=f"course/{n}", priority=n))
        elif step == "late":
            alive.append(add(store, parent=f"course/{n}", **{"execution_mode": "mixed"}))
        elif step == "feed":
            push(store, fed(store, n + 1), zxid * 1000)
        elif step == "cancel":
            store.jobs.cancel(job, lambda _: None, None)
            alive.remove(job)
        elif step in ("run", "retry"):
            name = store.jobs.get_job(job).entry or entry(zxid * 1000 + 999)
            if claim(store, job, name, Fence(1, zxid)).answer.runs:
                clock.advance(n)
                if step == "run":
                    finish(store, job, Fence(1, zxid))
                    alive.remove(job)
                else:
                    report(store, job, Fence(1, zxid), ReportKind.RETRY, retry_after_s=float(n))
        elif step == "clear" and (gone := store.jobs.get_job(job).entry):
            store.feed.cleared([EntryItem(job=job, entry=gone)])
        elif step == "edit" and store.jobs.get_job(job).state == "QUEUED":
            _edit_priority(store, job, n)
        assert ready_keys(store) <= open_lanes(store)
    for job in alive:
        store.jobs.cancel(job, lambda _: None, None)
    fed(store, 1)


def _edit_priority(store: Store, job: str, priority: int) -> None:
    store.jobs.edit(
        job, lambda _: None, lambda before: Edit({**before, "priority": priority}), None
    )
