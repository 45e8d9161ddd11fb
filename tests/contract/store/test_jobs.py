"""Documents of jobs: what is stored comes back, and what follows by itself."""

from __future__ import annotations

from typing import Any

import pytest

from job_engine.errors import ConflictError, NotFoundError
from job_engine.model import Fence
from job_engine.model.acl import normalise
from job_engine.model.protocol.claims import ReportKind
from job_engine.store.base import Document
from job_engine.store.jobs.edits import Edit
from job_engine.store.jobs.logs import MAX_LINE_CHARS, MAX_LINES
from job_engine.store.search.query import Query, condition_of, run
from job_engine.store.search.source import JOBS
from job_engine.store.store import Store
from tests.contract.store.support import Clock, add, document, finish, push, report, running


def allow(_document: Document) -> None:
    """Authorise anything."""


def edit(store: Store, job: str, **changes: Any) -> Document:
    named = {key.replace("_", "-"): value for key, value in changes.items()}
    return store.jobs.edit(job, allow, lambda d: Edit({**d, **named}), "user/editor")


FULL = {
    "name": "a name",
    "description": "",
    "parent": "course/algo",
    "parent-job": "job/abc",
    "nested-jobs": ["job/x"],
    "target-resource": {"href": "deployment/x", "more": 1},
    "affected-resources": [{"href": "user/jane"}],
    "payload": '{"é": "☃"}',
    "output": "out",
    "status-message": "",
    "return-code": 0,
    "expiry": "2030-01-01T00:00:00.000Z",
    "version": 3,
    "priority": 5,
    "resource-metadata": "x/y",
}


def test_a_document_comes_back_as_it_was(store: Store) -> None:
    stored = store.jobs.add({**document(), **FULL})
    found = store.jobs.get(stored["id"])
    assert found == stored
    assert {key: found[key] for key in FULL} == FULL
    assert found["created"] == found["updated"] == "2023-11-14T22:13:20.000Z"


def test_defaults_are_not_made_up(store: Store) -> None:
    found = store.jobs.get(add(store))
    for absent in ("priority", "started", "tags", "duration", "status-message", "return-code"):
        assert absent not in found
    assert store.jobs.get_job(found["id"]).priority == 999


def test_share_is_the_parent_or_the_creator(store: Store) -> None:
    assert store.jobs.get_job(add(store)).share == "user/teacher"
    assert store.jobs.get_job(add(store, parent="course/algo")).share == "course/algo"


def test_many_are_stored_together_or_not_at_all(store: Store) -> None:
    documents = [document() for _ in range(50)]
    stored = store.jobs.add_many(documents)
    assert [d["id"] for d in stored] == [d["id"] for d in documents]
    with pytest.raises(ConflictError, match="conflict with"):
        store.jobs.add_many([document(), documents[3]])


def test_edits_and_what_follows(store: Store, clock: Clock) -> None:
    job = add(store, priority=3)
    clock.advance(1)
    started = edit(store, job, state="RUNNING")
    assert started["started"] == started["updated"]
    assert "priority" not in started
    assert "time-of-status-change" not in started
    assert started["updated-by"] == "user/editor"
    clock.advance(2)
    edited = edit(store, job, status_message="half")
    assert edited["time-of-status-change"] == edited["updated"]
    clock.advance(2.5)
    ended = edit(store, job, state="SUCCESS", return_code=0)
    assert (ended["progress"], ended["duration"], ended["return-code"]) == (100, 4, 0)
    assert ended["time-of-status-change"] == ended["updated"]
    with pytest.raises(ConflictError, match="edit is not allowed in final state"):
        edit(store, job)


def test_an_end_without_a_start_has_no_duration(store: Store) -> None:
    ended = edit(store, add(store), state="SUCCESS")
    assert "duration" not in ended
    assert "started" not in ended


def test_going_back_to_queued_keeps_the_start(store: Store, clock: Clock) -> None:
    job = add(store, execution_mode="mixed")
    started = edit(store, job, state="RUNNING")["started"]
    clock.advance(5)
    again = edit(store, job, state="QUEUED", execution_mode="pull")
    assert again["started"] == started
    assert edit(store, job, state="RUNNING")["started"] == started


def test_cancelling_a_queued_job(store: Store) -> None:
    cancelled = store.jobs.cancel(add(store), allow, "user/jane")
    assert (cancelled["state"], cancelled["progress"]) == ("CANCELED", 100)
    assert "duration" not in cancelled
    assert cancelled["updated-by"] == "user/jane"


def test_long_messages_lose_their_middle(store: Store) -> None:
    job = add(store)
    exact = "x" * 100_000
    assert edit(store, job, status_message=exact)["status-message"] == exact
    cut = edit(store, job, status_message="a" * 50_010 + "b" * 50_010)["status-message"]
    assert cut == "a" * 50_000 + "\n...\n" + "b" * 50_000


def test_tags_are_the_queues_until_a_client_edits_them(store: Store) -> None:
    job = add(store)
    name = push(store, job)
    shown = edit(store, job, name="x")  # a client that sends the tags back
    assert shown["tags"] == [f"/job/entries/{name}"]
    assert edit(store, job, tags=["monitor"])["tags"] == ["monitor"]
    assert store.jobs.get(job)["tags"] == ["monitor"]


def test_deleting(store: Store) -> None:
    job = running(store, Fence(1, 1))
    finish(store, job, Fence(1, 1), log=["x"])
    store.jobs.delete(job, allow)
    for gone in (lambda: store.jobs.get(job), lambda: store.jobs.delete(job, allow)):
        with pytest.raises(NotFoundError):
            gone()
    assert store.logs.read(job).lines == []


def test_deleting_many_goes_in_batches(store: Store, clock: Clock) -> None:
    store.jobs.add_many([document() for _ in range(1203)])
    kept = add(store, action="kept")
    condition = condition_of(JOBS, Query(), clock()) & JOBS.table.c.action.is_distinct_from("kept")
    assert store.jobs.delete_where(condition) == 1203
    page = store.database.read(lambda c: run(c, JOBS, Query(), clock()))
    assert [found["id"] for found in page.documents] == [kept]


def test_an_acl_that_is_edited_counts_at_once(store: Store, clock: Clock) -> None:
    job = add(store)

    def seen() -> int:
        query = Query(claims={"user/jane"})
        return store.database.read(lambda c: run(c, JOBS, query, clock())).count

    assert seen() == 0
    edit(store, job, acl=normalise({"owners": ["user/teacher"], "view-data": ["user/jane"]}))
    assert seen() == 1
    edit(store, job, acl=normalise({"owners": ["user/teacher"]}))
    assert seen() == 0


def test_logs_have_limits(store: Store) -> None:
    job = running(store, Fence(1, 1))
    report(store, job, Fence(1, 1), ReportKind.PROGRESS, log=["x" * 9000] * (MAX_LINES - 1))
    report(store, job, Fence(1, 1), ReportKind.PROGRESS, log=["a", "b", "c"])
    report(store, job, Fence(1, 1), ReportKind.PROGRESS, log=["d"])
    page = store.logs.read(job, after=MAX_LINES - 2, limit=100)
    assert page.next == MAX_LINES
    assert len(page.lines[0]) == MAX_LINE_CHARS
    assert "the log is full" in page.lines[1]


def test_only_old_final_jobs_are_swept(store: Store, clock: Clock) -> None:
    old, waiting = add(store), add(store)
    store.jobs.cancel(old, allow, None)
    clock.advance(7 * 86_400)
    young = add(store)
    store.jobs.cancel(young, allow, None)
    clock.advance(1)
    assert store.jobs.delete_old(7 * 86_400) == 1
    for kept in (waiting, young):
        assert store.jobs.get(kept)["id"] == kept
