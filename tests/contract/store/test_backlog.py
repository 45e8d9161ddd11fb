"""What there is to do, told without a look at the jobs."""

from __future__ import annotations

from job_engine.model import Fence
from job_engine.model.protocol.actions import ActionDescription
from job_engine.model.protocol.feed import EntryItem
from job_engine.store.jobs import backlog
from job_engine.store.store import Store
from tests.contract.store.support import ON_SQLITE, Clock, add, claim, entry, finish, plan


def test_an_empty_store_has_nothing_to_do(store: Store) -> None:
    seen = store.backlogs.look()
    assert (seen.jobs, seen.pushed, seen.oldest_queued_s) == ({}, {}, 0)


def test_it_tells_how_many_and_how_old(store: Store, clock: Clock) -> None:
    store.actions.publish([ActionDescription(name="noop", payload_schema={}, timeout_s=1)])
    first = add(store)
    clock.advance(5)
    second, third = add(store), add(store)
    add(store, action="unknown")
    add(store, action="unknown too")
    clock.advance(2.5)
    assert store.backlogs.look().oldest_queued_s == 7.5
    store.feed.pushed([EntryItem(job=first, entry=entry(1)), EntryItem(job=second, entry=entry(2))])
    assert claim(store, first, entry(1), Fence(1, 10)).answer.runs
    seen = store.backlogs.look()
    assert seen.pushed == {"noop": 1}
    assert seen.jobs["noop", "QUEUED"] == 2
    assert seen.jobs["noop", "RUNNING"] == 1
    assert seen.jobs["noop", "CANCELED"] == 0
    assert seen.jobs[backlog.UNKNOWN, "QUEUED"] == 2
    assert seen.oldest_queued_s == 2.5
    finish(store, first, Fence(1, 10))
    store.jobs.cancel(third, lambda _: None, None, lambda _: None)
    seen = store.backlogs.look()
    assert seen.jobs["noop", "SUCCESS"] == seen.jobs["noop", "CANCELED"] == 1


@ON_SQLITE
def test_a_look_reads_indexes_only(store: Store) -> None:
    def plans(statement: object) -> list[str]:
        return store.database.read(lambda c: plan(c, statement))

    pushed = backlog.pushed_jobs.params(action="noop", newest_version=2, most=100)
    assert "SEARCH jobs USING INDEX jobs_waiting (action=?)" in plans(pushed)
    assert plans(backlog.oldest_queued) == [
        "SEARCH jobs USING COVERING INDEX jobs_state_created (state=?)"
    ]
