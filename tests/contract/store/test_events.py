"""Events: one for each change of state, with ids that become visible in order."""

from __future__ import annotations

import threading

import pytest

from job_engine.errors import ConflictError
from job_engine.model import Fence, JobState
from job_engine.model.protocol.events import CancelledEntry, Changes
from job_engine.store.base import EVENTS_TOPIC
from job_engine.store.factory import open_store
from job_engine.store.jobs import events
from job_engine.store.jobs.edits import Edit
from job_engine.store.jobs.events import FEW
from job_engine.store.store import Store
from tests.contract.store.support import (
    FENCE,
    Clock,
    add,
    claim,
    document,
    finish,
    push,
    running,
    states,
)


def test_one_event_a_change(store: Store) -> None:
    job = running(store, Fence(1, 1))
    finish(store, job, Fence(1, 1))
    assert states(store) == [(job, "QUEUED"), (job, "RUNNING"), (job, "SUCCESS")]
    seen = store.events.newest()
    store.jobs.delete(job, lambda _: None)  # nothing that anybody waits for
    assert store.events.newest() == seen


def test_an_event_says_what_the_leader_has_to_know(store: Store) -> None:
    job = add(store, priority=7)
    name = push(store, job)
    store.jobs.cancel(job, lambda _: None, None)
    event = store.events.after(0).events[-1].event
    assert (event.job, event.priority, event.entry, event.action) == (job, 7, name, "noop")


def test_filters_and_pages(store: Store) -> None:
    first, second = add(store, action="a"), add(store, action="b")
    store.jobs.cancel(first, lambda _: None, None)
    assert [e.event.job for e in store.events.after(0, actions=["b"]).events] == [second]
    assert [e.event.job for e in store.events.after(0, states=["CANCELED"]).events] == [first]
    page = store.events.after(0, limit=2).events
    assert [e.event.job for e in page] == [first, second]
    assert [e.event.job for e in store.events.after(page[-1].id).events] == [first]


def test_events_that_a_filter_skips_are_read_once(store: Store) -> None:
    add(store)
    page = store.events.after(0, states=["CANCELED"])
    assert (page.events, page.upto, page.more) == ([], store.events.newest(), False)
    full = store.events.after(0, limit=1)
    assert (full.upto, full.more) == (full.events[-1].id, True)


def test_a_failed_unit_leaves_no_event(store: Store) -> None:
    taken = document()
    store.jobs.add(taken)
    seen = store.events.newest()
    with pytest.raises(ConflictError):
        store.jobs.add_many([document(), taken, document()])
    assert store.events.newest() == seen
    assert len(states(store)) == 1


def test_no_id_becomes_visible_after_a_greater_one(store: Store) -> None:
    """A reader that goes on after the greatest id it saw misses nothing."""
    writers, each = 8, 40
    done = threading.Event()
    followed: list[int] = []

    def write() -> None:
        for _ in range(each):
            add(store)

    def follow() -> None:
        last = 0
        while True:
            finished = done.is_set()
            page = store.events.after(last, limit=10_000).events
            followed.extend(stored.id for stored in page)
            last = page[-1].id if page else last
            if finished and not page:
                return

    reader = threading.Thread(target=follow)
    reader.start()
    threads = [threading.Thread(target=write) for _ in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    reader.join()
    everything = [stored.id for stored in store.events.after(0, limit=10_000).events]
    assert followed == everything
    assert len(followed) == writers * each


def test_listeners_are_told_before_the_writer_is(store: Store) -> None:
    topics: list[frozenset[str]] = []
    store.database.listen(topics.append)
    job = add(store)
    assert topics == [frozenset({EVENTS_TOPIC + "QUEUED"})]
    store.jobs.edit(job, lambda _: None, lambda before: Edit({**before, "name": "x"}), None)
    assert len(topics) == 1
    store.database.unlisten(topics.append)


def test_old_events_are_trimmed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEPT", 1500)
    store.jobs.add_many([document() for _ in range(4000)])
    store.jobs.add_many([document() for _ in range(200)])
    ids = [stored.id for stored in store.events.after(0, limit=10_000).events]
    assert ids[-1] == 4200
    assert 1500 <= len(ids) <= 1500 + 1024 + 200


def test_ids_are_not_used_again_after_a_restart(store_url: str) -> None:
    ids = []
    for _ in range(2):
        store = open_store(store_url, Clock())
        store.start()
        add(store)
        ids.append(store.events.newest())
        store.stop()
    assert ids == [1, 2]


def test_changes_sum_up_what_leaders_have_to_look_at(store: Store) -> None:
    before = store.events.newest()
    assert store.events.changes(before).changes == Changes()
    waiting = [add(store, action="wait") for _ in range(3)]
    ran = running(store)
    name = push(store, waiting[0])
    store.jobs.cancel(waiting[0], lambda _: None, None)
    store.jobs.cancel(waiting[1], lambda _: None, None)
    page = store.events.changes(before)
    assert page.upto == store.events.newest()
    assert page.changes == Changes(
        waiting=["noop", "wait"],
        moving=["noop"],
        cancelled=[CancelledEntry(action="wait", entry=name)],
    )  # nothing is new alone: some that were created are no longer waiting
    finish(store, ran, FENCE)
    assert store.events.changes(page.upto).changes == Changes()


def test_leaders_are_told_of_entries_that_nobody_consumes(store: Store) -> None:
    edited, claimed = add(store), add(store)
    name = push(store, claimed, 1)
    left = push(store, edited, 2)
    seen = store.events.newest()
    assert claim(store, claimed, name, FENCE).answer.runs
    finish(store, claimed, FENCE, JobState.FAILED)
    store.jobs.edit(edited, lambda _: None, lambda d: Edit({**d, "state": "SUCCESS"}), None)
    cancelled = store.events.changes(seen).changes.cancelled
    assert cancelled == [CancelledEntry(action="noop", entry=left)]


def test_new_jobs_are_named_where_they_are_few_and_nothing_else_waits(store: Store) -> None:
    before = store.events.newest()
    jobs = [add(store, priority=n) for n in range(FEW)]
    new = store.events.changes(before).changes.new
    assert [(job.job, job.action, job.priority, job.version) for job in new] == [
        (job, "noop", n, 2) for n, job in enumerate(jobs)
    ]
    other = add(store, action="other")
    assert store.events.changes(before).changes.new == []  # one too many
    page = store.events.changes(before + FEW).changes
    assert [job.job for job in page.new] == [other]
    add(store, action="other", not_before="2100-01-01T00:00:00.000Z")
    # It has to be asked when that one is due.
    assert store.events.changes(before + FEW).changes.new == []
