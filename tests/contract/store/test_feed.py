"""The feed: order, window, retries, entries, orphans; and that its cost is the window's."""

from __future__ import annotations

import pytest

from job_engine.model import Answer, Fence
from job_engine.model.protocol.claims import ReportKind
from job_engine.model.protocol.feed import EntryItem
from job_engine.store.fair_share import refill
from job_engine.store.fair_share.turns import Key
from job_engine.store.jobs import feed
from job_engine.store.jobs.edits import Edit
from job_engine.store.store import Store
from tests.contract.store.support import (
    ON_SQLITE,
    Clock,
    add,
    claim,
    document,
    entry,
    plan,
    push,
    report,
    running,
    states,
)


def fed(store: Store, window: int, action: str = "noop") -> list[str]:
    return [item.job for item in store.feed.feed(action, window).jobs]


def edit(store: Store, job: str, **changes: str) -> None:
    named = {key.replace("_", "-"): value for key, value in changes.items()}
    claims = named.get("state") == "RUNNING"
    store.jobs.edit(job, lambda _: None, lambda d: Edit({**d, **named}, claims), "user/peer")


def push_many(store: Store, jobs: list[str]) -> None:
    items = [EntryItem(job=job, entry=entry(n)) for n, job in enumerate(jobs)]
    assert store.feed.pushed(items) == [True] * len(jobs)


def test_priority_then_age_then_order_of_creation(store: Store, clock: Clock) -> None:
    late = add(store, priority=7)
    clock.advance(-1)  # a clock that was set back
    early = add(store, priority=7)
    clock.advance(5)
    batch = store.jobs.add_many([document(priority=7) for _ in range(20)])
    urgent = add(store, priority=0)
    default = add(store)
    expected = [urgent, early, late, *(d["id"] for d in batch), default]
    assert fed(store, 100) == expected
    assert fed(store, 3) == expected[:3]


def test_the_window_counts_entries_that_are_at_least_as_urgent(store: Store) -> None:
    normal = [add(store, priority=500) for _ in range(6)]
    assert fed(store, 4) == normal[:4]
    push_many(store, normal[:4])
    assert fed(store, 4) == []
    urgent = [add(store, priority=10) for _ in range(6)]
    # Never behind a full window of others, but within its own.
    assert fed(store, 4) == urgent[:4]
    push_many(store, urgent[:3])
    assert fed(store, 4) == urgent[3:4]


def test_a_claimed_job_makes_room(store: Store) -> None:
    jobs = [add(store) for _ in range(3)]
    push_many(store, jobs[:2])
    assert fed(store, 2) == []
    claim(store, jobs[0], entry(0), Fence(1, 1))
    assert fed(store, 2) == [jobs[2]]


def test_a_foreign_claimer_may_be_faster_than_the_leaders_word(store: Store) -> None:
    """Refused, the entry would be removed, and nothing left to run the job by."""
    for mode, written in (("push", True), ("mixed", True), ("pull", False)):
        job = add(store, execution_mode=mode)
        edit(store, job, state="RUNNING")
        item = EntryItem(job=job, entry=entry(1))
        assert store.feed.pushed([item]) == [written]
        assert store.jobs.get_job(job).entry == (entry(1) if written else None)
        assert store.feed.pushed([EntryItem(job=job, entry=entry(2))]) == [False]


def test_a_job_that_is_left_to_agents_takes_no_room(store: Store) -> None:
    """What foreign executors do with jobs of mixed mode whose action raised."""
    mixed = [add(store, execution_mode="mixed") for _ in range(2)]
    push_many(store, mixed)
    waiting = add(store)
    assert fed(store, 2) == []
    edit(store, mixed[0], state="RUNNING")
    edit(store, mixed[0], state="QUEUED", execution_mode="pull")
    assert fed(store, 2) == [waiting]
    left = store.jobs.get(mixed[0])
    assert (left["state"], left["execution-mode"]) == ("QUEUED", "pull")
    assert "tags" not in left
    # Nobody waits for the entry any more, and it says so.
    assert claim(store, mixed[0], entry(0), Fence(1, 1)).answer is Answer.NOT_DUE


def test_neither_pulled_nor_cancelled_jobs_nor_other_actions_are_fed(store: Store) -> None:
    add(store, execution_mode="pull")
    add(store, action="other")
    cancelled = add(store)
    store.jobs.cancel(cancelled, lambda _: None, None)
    mixed = add(store, execution_mode="mixed")
    assert fed(store, 10) == [mixed]


def test_retries_become_due_in_their_old_place(store: Store, clock: Clock) -> None:
    retried = running(store, Fence(1, 1))
    report(store, retried, Fence(1, 1), ReportKind.RETRY, retry_after_s=10)
    clock.advance(1)
    younger = add(store)
    assert fed(store, 10) == [younger]
    clock.advance(9)
    assert fed(store, 10) == [retried, younger]
    assert store.feed.feed("noop", 10).next_due_ms is None


def test_entries_are_recorded_once_and_cleared_by_name(store: Store) -> None:
    job = add(store)
    name = push(store, job)
    assert store.jobs.get(job)["tags"] == [f"/job/entries/{name}"]
    assert store.feed.pushed([EntryItem(job=job, entry=entry(2))]) == [False]
    assert fed(store, 10) == []
    assert store.feed.cleared([EntryItem(job=job, entry=entry(2))]) == [False]
    assert store.feed.cleared([EntryItem(job=job, entry=name)]) == [True]
    assert "tags" not in store.jobs.get(job)
    assert fed(store, 10) == [job]


def test_recorded_entries_come_in_pages(store: Store) -> None:
    jobs = [add(store) for _ in range(7)]
    push_many(store, jobs)
    claim(store, jobs[0], entry(0), Fence(1, 1))
    store.jobs.cancel(jobs[1], lambda _: None, None)
    add(store)
    found: list[EntryItem] = []
    after: str | None = ""
    while after is not None:
        page = store.feed.entries("noop", after, limit=2)
        found.extend(page.entries)
        after = page.next
    assert sorted(item.job for item in found) == sorted([jobs[0], *jobs[2:]])
    assert {item.job: item.entry for item in found}[jobs[3]] == entry(3)


def test_orphans_fail_after_their_grace(store: Store, clock: Clock) -> None:
    orphans = [add(store, action="nobody") for _ in range(3)]
    retried = running(store, Fence(1, 1))
    report(store, retried, Fence(1, 1), ReportKind.RETRY, retry_after_s=1000)
    clock.advance(59)
    young = add(store, action="nobody")
    known = add(store, action="grade")
    pulled = add(store, action="nobody", execution_mode="pull")
    pushed = add(store, action="nobody")
    push(store, pushed)
    clock.advance(1)
    assert store.feed.fail_orphans(["grade"], 60) == 3
    for job in orphans:
        found = store.jobs.get(job)
        assert found["state"] == "FAILED"
        assert "No executor has the action" in found["status-message"]
        assert (job, "FAILED") in states(store)
    left = (retried, young, known, pulled, pushed)
    assert {store.jobs.get(job)["state"] for job in left} == {"QUEUED"}
    assert store.feed.fail_orphans(["grade"], 60) == 0
    clock.advance(1000)  # a retry waits for somebody only once it is due
    assert store.feed.fail_orphans(["grade"], 60) == 2
    assert store.jobs.get(retried)["state"] == store.jobs.get(young)["state"] == "FAILED"


LANE = Key("noop", 5, "a", 2)
NEWEST = {"action": "noop", "newest_version": 2}


@ON_SQLITE
@pytest.mark.parametrize(
    ("statement", "indexes"),
    [
        (refill.most_urgent_waiting.params(**NEWEST, most=100), ["jobs_waiting"]),
        (refill.next_due.params(action="noop"), ["jobs_retrying"]),
        (feed.recorded("noop", "job/0", 100), ["jobs_entries"]),
        (refill.oldest_in.params(**LANE._asdict(), most=100), ["jobs_ready"]),
        (
            refill.ready_lanes.params(**NEWEST, most=100),
            ["lanes_order", "sqlite_autoindex_shares_1"],
        ),
        (
            refill.oldest_of_each.params(**LANE.queue._asdict(), names=["a", "b"]),
            ["PRIMARY KEY (action=? AND priority=? AND share=?)", None, "jobs_ready"],
        ),
    ],
    ids=["waiting", "due", "entries", "oldest", "lanes", "oldest of each"],
)
def test_hot_statements_walk_their_indexes_and_sort_nothing(
    store: Store, statement: object, indexes: list[str | None]
) -> None:
    store.jobs.add_many([document(priority=n % 1000, parent=f"p/{n % 7}") for n in range(2000)])
    details = store.database.read(lambda c: plan(c, statement))
    assert len(details) == len(indexes), details
    for detail, index in zip(details, indexes, strict=True):
        assert detail.startswith("SEARCH") if index else "SCALAR SUBQUERY" in detail, details
        assert index is None or index in detail, details
