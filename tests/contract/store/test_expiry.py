"""Jobs that wait for too long, and jobs that may not start yet."""

from __future__ import annotations

from job_engine.model import EXPIRED, Fence, JobState
from job_engine.model.protocol.claims import ReportKind
from job_engine.model.protocol.events import CancelledEntry
from job_engine.model.timestamps import format_ms
from job_engine.store.jobs.edits import Edit
from job_engine.store.jobs.expiry import expired
from job_engine.store.store import Store
from tests.contract.store.support import (
    FENCE,
    NOW_MS,
    ON_SQLITE,
    Clock,
    add,
    claim,
    document,
    entry,
    finish,
    plan,
    push,
    report,
    running,
    states,
)

SOON = format_ms(NOW_MS + 60_000)


def fed(store: Store) -> list[str]:
    return [item.job for item in store.feed.feed("noop", 10).jobs]


def test_jobs_that_still_wait_at_their_expiry_fail(store: Store, clock: Clock) -> None:
    ready, pushed = add(store, expiry=SOON), add(store, expiry=SOON)
    pulled = add(store, expiry=SOON, execution_mode="pull")
    others = [add(store), add(store, expiry=format_ms(NOW_MS + 90_000))]
    name = push(store, pushed)
    clock.advance(59.9)
    assert store.expiry.fail_expired() == 0
    clock.advance(0.1)
    assert store.expiry.fail_expired() == 3
    assert store.expiry.fail_expired() == 0
    for job in (ready, pushed, pulled):
        found = store.jobs.get(job)
        assert (found["state"], found["status-message"]) == ("FAILED", EXPIRED)
        assert (found["progress"], found["time-of-status-change"]) == (100, SOON)
    assert fed(store) == others
    last = store.events.after(0, limit=100).events
    ended = {e.event.job: e.event.entry for e in last if e.event.state is JobState.FAILED}
    assert ended == {ready: None, pushed: name, pulled: None}
    # So that its leader takes it out of the queue.
    left = store.events.changes(0).changes.cancelled
    assert left == [CancelledEntry(action="noop", entry=name)]


def test_running_and_final_jobs_do_not_expire(store: Store, clock: Clock) -> None:
    runs = running(store, expiry=SOON)
    over = running(store, Fence(1, 20), expiry=SOON)
    finish(store, over, Fence(1, 20))
    clock.advance(3600)
    assert store.expiry.fail_expired() == 0
    assert store.jobs.get(runs)["state"] == "RUNNING"
    assert claim(store, runs, entry(1), Fence(1, 30)).answer == "resume"
    report(store, runs, Fence(1, 30), ReportKind.RELEASE)
    assert store.expiry.fail_expired() == 1


def test_a_claim_may_be_faster_than_the_sweep(store: Store, clock: Clock) -> None:
    job = add(store, expiry=SOON)
    name = push(store, job)
    clock.advance(60)
    assert claim(store, job, name, FENCE).answer == "final"
    found = store.jobs.get(job)
    assert (found["state"], found["status-message"]) == ("FAILED", EXPIRED)
    assert states(store)[-1] == (job, "FAILED")
    assert store.expiry.fail_expired() == 0


def test_many_are_failed_in_batches(store: Store, clock: Clock) -> None:
    store.jobs.add_many([document(expiry=SOON) for _ in range(1100)])
    clock.advance(60)
    assert store.expiry.fail_expired() == 1100
    assert fed(store) == []


@ON_SQLITE
def test_the_sweep_reads_an_index(store: Store) -> None:
    (detail,) = store.database.read(lambda c: plan(c, expired(NOW_MS, 10)))
    searched = "(state=? AND expiry_ms>? AND expiry_ms<?)"
    assert detail == f"SEARCH jobs USING COVERING INDEX jobs_expiring {searched}"


def test_a_job_is_fed_at_its_time_and_not_before(store: Store, clock: Clock) -> None:
    job = add(store, not_before=SOON)
    assert store.jobs.get(job)["not-before"] == SOON
    assert fed(store) == []
    assert store.feed.feed("noop", 10).next_due_ms == NOW_MS + 60_000
    assert claim(store, job, entry(1), FENCE).answer == "not-due"
    clock.advance(60)
    assert fed(store) == [job]
    assert "not-before" not in store.jobs.get(job)


def test_a_time_that_has_passed_is_none(store: Store) -> None:
    jobs = [add(store, not_before=format_ms(NOW_MS - ago)) for ago in (0, 1000)]
    assert all("not-before" not in store.jobs.get(job) for job in jobs)
    assert fed(store) == jobs


def test_when_a_retry_is_due_is_nobodys_to_edit(store: Store) -> None:
    job = running(store)
    report(store, job, FENCE, ReportKind.RETRY, retry_after_s=60.0)
    due = store.jobs.get(job)["not-before"]
    assert due == SOON

    def change(before: dict[str, object]) -> Edit:
        return Edit({k: v for k, v in before.items() if k != "not-before"} | {"name": "x"})

    edited = store.jobs.edit(job, lambda _: None, change, None)
    assert (edited["not-before"], edited["name"]) == (due, "x")
    assert store.feed.feed("noop", 10).next_due_ms == NOW_MS + 60_000


def test_a_claim_takes_the_time_away(store: Store, clock: Clock) -> None:
    retried, foreign = running(store), add(store, not_before=SOON)
    report(store, retried, FENCE, ReportKind.RETRY, retry_after_s=60.0)
    claimed = store.jobs.edit(
        foreign, lambda _: None, lambda d: Edit({**d, "state": "RUNNING"}, claims=True), "user/x"
    )
    assert "not-before" not in claimed
    clock.advance(60)
    assert claim(store, retried, entry(2), Fence(1, 30)).answer == "run"
    assert "not-before" not in store.jobs.get(retried)
