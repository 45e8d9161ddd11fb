"""Foreign runs that say nothing: which they are, and that they are queued again once."""

from __future__ import annotations

from typing import Any

import pytest

from job_engine.model import Answer, Fence
from job_engine.model.protocol.feed import EntryItem, ForeignRun
from job_engine.store.base import Document
from job_engine.store.jobs import foreign
from job_engine.store.jobs.edits import Edit
from job_engine.store.store import Store
from tests.contract.store.support import (
    FENCE,
    ON_SQLITE,
    Clock,
    add,
    claim,
    entry,
    finish,
    plan,
    push,
    running,
    states,
)

SILENT_S = 60.0
EDITS_S = 0.01
"""More than a few edits in the same moment take: each is a millisecond later than the last."""


def edit(store: Store, job: str, **changes: object) -> Document:
    """Edit a job as a foreign consumer does."""
    claims = changes.get("state") == "RUNNING"
    return store.jobs.edit(
        job, lambda _: None, lambda d: Edit({**d, **changes}, claims), "user/foreign"
    )


def run_abroad(store: Store, **more: Any) -> str:
    """A job that a foreign consumer runs, whose entry nobody recorded."""
    job = add(store, **more)
    edit(store, job, state="RUNNING")
    return job


def silent(store: Store) -> list[str]:
    return [run.job for run in store.foreign.silent("noop", SILENT_S)]


def test_a_run_is_silent_once_nobody_has_touched_it_for_so_long(store: Store, clock: Clock) -> None:
    job = run_abroad(store)
    clock.advance(SILENT_S - 1)
    assert silent(store) == []
    edit(store, job, progress=50)
    clock.advance(SILENT_S - 1)
    assert silent(store) == []
    clock.advance(1 + EDITS_S)
    assert silent(store) == [job]


def test_only_what_runs_without_a_fence_and_with_nobody_else_in_charge(
    store: Store, clock: Clock
) -> None:
    add(store)
    running(store, FENCE)
    run_abroad(store, action="other")
    run_abroad(store, execution_mode="pull")
    edit(store, run_abroad(store), state="SUCCESS")
    edit(store, run_abroad(store), tags=["monitor"])
    mine = run_abroad(store)
    tagged = run_abroad(store, tags=["mine"])
    clock.advance(SILENT_S + EDITS_S)
    assert silent(store) == [mine, tagged]


@pytest.mark.parametrize("recorded", [True, False])
def test_it_is_queued_again_and_counted(store: Store, clock: Clock, *, recorded: bool) -> None:
    job = add(store)
    name = push(store, job) if recorded else None
    edit(store, job, state="RUNNING")
    clock.advance(SILENT_S + EDITS_S)
    runs = store.foreign.silent("noop", SILENT_S)
    assert [(run.job, run.entry) for run in runs] == [(job, name)]
    assert store.foreign.requeue(runs) == [True]
    assert store.foreign.requeue(runs) == [False]
    assert states(store)[-2:] == [(job, "RUNNING"), (job, "QUEUED")]
    assert [item.job for item in store.feed.feed("noop", 5).jobs] == [job]
    push(store, job, 2)
    reply = claim(store, job, entry(2), FENCE)
    assert (reply.answer, reply.interruptions) == (Answer.RUN, 1)
    finish(store, job, FENCE)
    assert store.jobs.get(job)["state"] == "SUCCESS"


def test_a_job_that_has_changed_since_is_not_queued_again(store: Store, clock: Clock) -> None:
    edited, ended, claimed, resumed = (run_abroad(store) for _ in range(4))
    push(store, resumed_first := add(store), 7)
    edit(store, resumed_first, state="RUNNING")
    clock.advance(SILENT_S + EDITS_S)
    runs = store.foreign.silent("noop", SILENT_S)
    assert {run.job for run in runs} == {edited, ended, claimed, resumed, resumed_first}
    clock.advance(1)
    edit(store, edited, progress=5)
    edit(store, ended, state="SUCCESS")
    edit(store, claimed, state="RUNNING")
    assert claim(store, resumed_first, entry(7), Fence(1, 99)).answer is Answer.RESUME
    before = {run.job: store.jobs.get(run.job) for run in runs}
    written = dict(zip((run.job for run in runs), store.foreign.requeue(runs), strict=True))
    assert written == {job: job == resumed for job in written}
    del before[resumed]
    assert {job: store.jobs.get(job) for job in before} == before


def test_a_job_that_is_gone_is_not_queued(store: Store) -> None:
    gone = ForeignRun(job="job/gone", entry=None, updated_ms=0)
    assert store.foreign.requeue([gone]) == [False]
    assert store.foreign.requeue([]) == []


def test_an_entry_that_is_recorded_late_is_all_that_is_left_of_a_run(
    store: Store, clock: Clock
) -> None:
    job = run_abroad(store)
    assert store.feed.pushed([EntryItem(job=job, entry=entry(1))]) == [True]
    clock.advance(SILENT_S + EDITS_S)
    (run,) = store.foreign.silent("noop", SILENT_S)
    assert run.entry == entry(1)
    assert claim(store, job, entry(1), FENCE).answer is Answer.RESUME
    assert store.foreign.requeue([run]) == [False]


@ON_SQLITE
def test_waiting_and_final_jobs_are_not_read(store: Store) -> None:
    steps = store.database.read(lambda c: plan(c, foreign.silent("noop", 0)))
    assert any("jobs_action (action=? AND state=?" in step for step in steps), steps
