"""Claims and fenced reports: one outcome, by the newest claim."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from job_engine.errors import ConflictError, InvalidResourceError, NotFoundError
from job_engine.model import Answer, Failure, Fault, Fence, FinalVerdict, JobState
from job_engine.model.protocol.claims import (
    ClaimItem,
    ClaimRequest,
    Report,
    ReportKind,
    ReportReceipt,
)
from job_engine.model.protocol.feed import EntryItem
from job_engine.store.base import Document
from job_engine.store.jobs.edits import Edit
from job_engine.store.store import Store
from tests.contract.store.support import (
    Clock,
    add,
    claim,
    entry,
    finish,
    push,
    report,
    running,
    states,
)

OLD, FENCE, NEW = Fence(1, 5), Fence(1, 10), Fence(1, 20)
AFTER_WIPE = Fence(2, 3)


def allow(_document: Document) -> None:
    """Authorise anything."""


def to_running(before: Document) -> Edit:
    return Edit({**before, "state": "RUNNING"}, claims=True)


def test_a_claim_runs_the_job_and_says_so(store: Store, clock: Clock) -> None:
    job = add(store)
    name = push(store, job)
    seen = store.events.newest()
    clock.advance(3)
    reply = claim(store, job, name, FENCE)
    assert reply.answer is Answer.RUN
    assert reply.document is not None
    assert reply.document["state"] == "RUNNING"
    assert reply.document == store.jobs.get(job)
    assert reply.document["started"] > reply.document["created"]
    assert states(store, seen) == [(job, "RUNNING")]
    stored = store.jobs.get_job(job)
    assert (stored.fence, stored.entry) == (FENCE, name)


def test_the_same_claim_is_answered_the_same_and_writes_nothing(store: Store, clock: Clock) -> None:
    job = running(store, FENCE)
    before, seen = store.jobs.get(job), store.events.newest()
    clock.advance(60)
    again = claim(store, job, entry(1), FENCE)
    assert again.answer is Answer.RUN
    assert store.jobs.get(job) == before
    assert store.events.newest() == seen


def test_a_newer_claim_of_the_same_entry_resumes(store: Store) -> None:
    job = running(store, FENCE)
    reply = claim(store, job, entry(1), NEW)
    assert (reply.answer, reply.interruptions) == (Answer.RESUME, 1)
    assert claim(store, job, entry(1), NEW).answer is Answer.RESUME
    assert claim(store, job, entry(1), FENCE).answer is Answer.STALE


def test_a_new_incarnation_is_newer_than_any_czxid_of_the_old(store: Store) -> None:
    job = running(store, Fence(1, 999_999))
    assert claim(store, job, entry(1), AFTER_WIPE).answer is Answer.RESUME
    assert finish(store, job, Fence(1, 999_999)) is ReportReceipt.LOST
    assert finish(store, job, AFTER_WIPE) is ReportReceipt.ACCEPTED


def test_too_many_interruptions_fail_the_job(store: Store) -> None:
    job = running(store, FENCE)
    for n in range(10):
        assert claim(store, job, entry(1), Fence(1, 11 + n)).answer is Answer.RESUME
    assert claim(store, job, entry(1), Fence(1, 99)).answer is Answer.FINAL
    failed = store.jobs.get(job)
    assert failed["state"] == "FAILED"
    assert "interrupted 11 times" in failed["status-message"]
    failure = Failure.model_validate_json(failed["output"])
    assert (failure.verdict, failure.fault) == (FinalVerdict.EXECUTOR_LOST, Fault.PLATFORM)
    assert states(store)[-1] == (job, "FAILED")


@pytest.mark.parametrize("job_version", [0, 1, 3])
def test_versions_that_this_engine_does_not_run(store: Store, job_version: int) -> None:
    job = add(store, version=job_version, status_message="before")
    answer = claim(store, job, entry(1), FENCE).answer
    found = store.jobs.get(job)
    if job_version > 2:  # perhaps a newer engine's
        assert (answer, found["state"]) == (Answer.UNSUPPORTED, "QUEUED")
    else:
        assert (answer, found["state"]) == (Answer.FINAL, "FAILED")
        assert f"Job v{job_version} is not supported" in found["status-message"]
        assert states(store)[-1] == (job, "FAILED")


def test_an_entry_of_a_running_job_is_a_duplicate(store: Store) -> None:
    job = running(store, FENCE)
    assert claim(store, job, entry(2), NEW).answer is Answer.DUPLICATE
    assert store.jobs.get_job(job).fence == FENCE


def test_both_entries_of_a_job_in_one_batch(store: Store) -> None:
    job = add(store)
    request = ClaimRequest(
        executor="e",
        actions=["noop"],
        claims=[
            ClaimItem(job=job, entry=entry(1), fence=FENCE),
            ClaimItem(job=job, entry=entry(2), fence=FENCE),
            ClaimItem(job="job/none", entry=entry(3), fence=FENCE),
        ],
    )
    answers = [reply.answer for reply in store.claims.claim(request)]
    assert answers == [Answer.RUN, Answer.DUPLICATE, Answer.GONE]


def test_a_claim_without_the_action_is_unsupported_and_changes_nothing(store: Store) -> None:
    job = add(store, action="grade")
    before = store.jobs.get(job)
    assert claim(store, job, entry(1), FENCE).answer is Answer.UNSUPPORTED
    assert store.jobs.get(job) == before


@pytest.mark.parametrize("fence", [OLD, NEW, Fence(0, 10), Fence(2, 10)], ids=str)
@pytest.mark.parametrize("kind", list(ReportKind))
def test_only_the_very_fence_writes(store: Store, kind: ReportKind, fence: Fence) -> None:
    """Equal, not just "not older": after a restore the store may know less than the claimer."""
    job = running(store, FENCE)
    before = store.jobs.get(job)
    state = JobState.SUCCESS if kind is ReportKind.FINISH else None
    receipt = report(store, job, fence, kind, state=state, progress=7, log=["x"])
    assert receipt is ReportReceipt.LOST
    assert store.jobs.get(job) == before
    assert store.logs.read(job).lines == []


def test_reports_on_missing_jobs_and_jobs_that_do_not_run_are_refused(store: Store) -> None:
    job = add(store)
    assert finish(store, job, FENCE) is ReportReceipt.LOST
    assert finish(store, "job/none", FENCE) is ReportReceipt.LOST


def test_progress_is_kept_without_an_event(store: Store) -> None:
    job = running(store, FENCE)
    seen = store.events.newest()
    receipt = report(
        store,
        job,
        FENCE,
        ReportKind.PROGRESS,
        progress=40,
        status_message="testing",
        output="{}",
        log=["one", "two"],
    )
    assert receipt is ReportReceipt.ACCEPTED
    assert report(store, job, FENCE, ReportKind.PROGRESS, log=["three"]) is ReportReceipt.ACCEPTED
    found = store.jobs.get(job)
    assert (found["progress"], found["status-message"], found["output"]) == (40, "testing", "{}")
    assert store.logs.read(job).lines == ["one", "two", "three"]
    assert store.logs.read(job, after=2).lines == ["three"]
    assert store.events.newest() == seen


def test_finishing_is_idempotent(store: Store, clock: Clock) -> None:
    job = running(store, FENCE)
    clock.advance(12.9)
    assert finish(store, job, FENCE, return_code=0, status_message="ok") is ReportReceipt.ACCEPTED
    assert finish(store, job, FENCE, JobState.FAILED) is ReportReceipt.FINAL
    found = store.jobs.get(job)
    assert (found["state"], found["progress"], found["duration"]) == ("SUCCESS", 100, 12)
    assert states(store)[-1] == (job, "SUCCESS")
    assert claim(store, job, entry(1), NEW).answer is Answer.FINAL


def test_a_finish_names_an_end(store: Store) -> None:
    job = running(store, FENCE)
    with pytest.raises(InvalidResourceError):
        finish(store, job, FENCE, JobState.QUEUED)
    assert store.jobs.get(job)["state"] == "RUNNING"


def test_a_retry_waits_for_its_time(store: Store, clock: Clock) -> None:
    job = running(store, FENCE)
    assert report(store, job, FENCE, ReportKind.RETRY, retry_after_s=5) is ReportReceipt.ACCEPTED
    again = store.jobs.get_job(job)
    assert (again.state, again.attempts, again.entry) == (JobState.QUEUED, 1, None)
    assert report(store, job, FENCE, ReportKind.RETRY, retry_after_s=5) is ReportReceipt.LOST
    assert claim(store, job, entry(1), NEW).answer is Answer.NOT_DUE
    assert store.feed.feed("noop", 10).jobs == []
    assert store.feed.feed("noop", 10).next_due_ms == clock.now_ms + 5000
    clock.advance(5)
    assert [item.job for item in store.feed.feed("noop", 10).jobs] == [job]
    assert claim(store, job, entry(2), NEW).answer is Answer.RUN


def test_a_release_keeps_entry_and_fence(store: Store) -> None:
    job = running(store, FENCE)
    assert report(store, job, FENCE, ReportKind.RELEASE) is ReportReceipt.ACCEPTED
    released = store.jobs.get_job(job)
    assert (released.state, released.entry, released.fence) == (
        JobState.QUEUED,
        entry(1),
        FENCE,
    )
    assert (released.attempts, released.interruptions) == (0, 0)
    assert claim(store, job, entry(1), FENCE).answer is Answer.STALE
    assert claim(store, job, entry(1), NEW).answer is Answer.RUN


def test_cancel_wins_over_a_later_finish(store: Store) -> None:
    job = running(store, FENCE)
    store.jobs.cancel(job, allow, "user/teacher")
    assert finish(store, job, FENCE) is ReportReceipt.FINAL
    assert store.jobs.get(job)["state"] == "CANCELED"
    with pytest.raises(ConflictError):
        store.jobs.cancel(job, allow, "user/teacher")


def test_a_foreign_claim_clears_the_fence(store: Store) -> None:
    job = running(store, FENCE)
    store.jobs.edit(job, allow, to_running, "user/foreign")
    assert store.jobs.get_job(job).fence is None
    assert finish(store, job, FENCE) is ReportReceipt.LOST
    edited = store.jobs.edit(job, allow, lambda d: Edit({**d, "progress": 50}), "user/foreign")
    assert edited["progress"] == 50


@pytest.mark.parametrize(
    "change",
    [{"state": "SUCCESS"}, {"progress": 5}, {"status-message": "x"}, {"output": "x"}],
    ids=str,
)
def test_no_unfenced_edit_of_what_a_fenced_run_writes(store: Store, change: Document) -> None:
    job = running(store, FENCE)
    before = store.jobs.get(job)
    with pytest.raises(ConflictError):
        store.jobs.edit(job, allow, lambda d: Edit({**d, **change}), "user/teacher")
    assert store.jobs.get(job) == before


def test_other_attributes_of_a_fenced_run_may_be_edited(store: Store) -> None:
    job = running(store, FENCE)
    edited = store.jobs.edit(job, allow, lambda d: Edit({**d, "name": "x"}), "user/teacher")
    assert edited["name"] == "x"
    assert finish(store, job, FENCE) is ReportReceipt.ACCEPTED


def test_a_refused_edit_writes_nothing_and_harms_no_other(store: Store) -> None:
    job, other = add(store), add(store)

    def refuse(_document: Document) -> None:
        raise ConflictError("no")

    with pytest.raises(ConflictError, match="no"):
        store.jobs.edit(job, refuse, to_running, None)
    store.jobs.delete(other, allow)
    with pytest.raises(NotFoundError):
        store.jobs.get(other)
    assert store.jobs.get(job)["state"] == "QUEUED"


def test_exactly_one_of_many_finishes_wins(store: Store) -> None:
    job = running(store, FENCE)
    barrier = threading.Barrier(9)
    accepted: list[str] = []

    def race(name: str, act: Callable[[], bool]) -> None:
        barrier.wait()
        if act():
            accepted.append(name)

    def cancel() -> bool:
        try:
            store.jobs.cancel(job, allow, None)
        except ConflictError:
            return False
        return True

    racers = [
        threading.Thread(
            target=race,
            args=(f"finish-{n}", lambda: finish(store, job, FENCE) is ReportReceipt.ACCEPTED),
        )
        for n in range(8)
    ]
    racers.append(threading.Thread(target=race, args=("cancel", cancel)))
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert len(accepted) == 1
    expected = "CANCELED" if accepted == ["cancel"] else "SUCCESS"
    assert store.jobs.get(job)["state"] == expected
    assert [state for _, state in states(store)].count(expected) == 1


def test_exactly_one_of_many_claimers_runs_a_job(store: Store) -> None:
    job = add(store)
    barrier = threading.Barrier(8)
    answers: list[Answer] = []

    def race(number: int) -> None:
        barrier.wait()
        answers.append(claim(store, job, entry(number), Fence(1, 100 + number)).answer)

    racers = [threading.Thread(target=race, args=(n,)) for n in range(8)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert answers.count(Answer.RUN) == 1
    assert set(answers) <= {Answer.RUN, Answer.DUPLICATE, Answer.STALE}


def test_a_deleted_running_job_is_told_to_stop(store: Store) -> None:
    job = running(store, FENCE)
    store.jobs.delete(job, allow)
    assert states(store)[-1] == (job, "CANCELED")
    assert finish(store, job, FENCE, log=["late"]) is ReportReceipt.LOST


def test_reports_of_a_batch_are_each_their_own(store: Store) -> None:
    job = running(store, FENCE)
    reports = [
        Report(job=job, fence=OLD, kind=ReportKind.PROGRESS, progress=1),
        Report(job=job, fence=FENCE, kind=ReportKind.PROGRESS, progress=2),
        Report(job=job, fence=FENCE, kind=ReportKind.FINISH, state=JobState.FAILED),
        Report(job=job, fence=FENCE, kind=ReportKind.PROGRESS, progress=3),
    ]
    assert store.claims.report(reports) == [
        ReportReceipt.LOST,
        ReportReceipt.ACCEPTED,
        ReportReceipt.ACCEPTED,
        ReportReceipt.FINAL,
    ]


def test_the_entry_of_a_job_that_was_claimed_meanwhile_is_not_recorded(store: Store) -> None:
    job = running(store, FENCE)
    assert store.feed.pushed([EntryItem(job=job, entry=entry(7))]) == [False]
    assert store.feed.cleared([EntryItem(job=job, entry=entry(7))]) == [False]
    assert store.feed.cleared([EntryItem(job=job, entry=entry(1))]) == [True]


def test_a_running_job_whose_entry_is_gone_is_queued_again(store: Store) -> None:
    """ZooKeeper lost its data: nobody could claim the old entry to resume the job."""
    job = running(store, FENCE)
    assert store.feed.cleared([EntryItem(job=job, entry=entry(1))]) == [True]
    assert states(store)[-1] == (job, "QUEUED")
    assert [item.job for item in store.feed.feed("noop", 5).jobs] == [job]
    assert finish(store, job, FENCE) is ReportReceipt.LOST
    push(store, job, 2)
    assert claim(store, job, entry(2), FENCE).answer is Answer.STALE
    reply = claim(store, job, entry(2), AFTER_WIPE)
    assert (reply.answer, reply.interruptions) == (Answer.RUN, 1)
    assert finish(store, job, AFTER_WIPE) is ReportReceipt.ACCEPTED


def test_a_foreign_run_keeps_its_entry(store: Store) -> None:
    job = running(store, FENCE)
    store.jobs.edit(job, allow, to_running, "user/foreign")
    assert store.feed.cleared([EntryItem(job=job, entry=entry(1))]) == [False]
