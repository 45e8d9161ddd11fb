"""Messages of webhooks are written once for each change, in its transaction."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa

from job_engine.errors import ConflictError
from job_engine.model import Fence, JobState
from job_engine.model.protocol.claims import ReportKind
from job_engine.store.jobs.edits import Edit
from job_engine.store.store import Store
from job_engine.store.tables import jobs, resources
from tests.contract.store.support import (
    FENCE,
    add,
    claim,
    document,
    entry,
    finish,
    report,
    running,
)
from tests.contract.store.webhooks import (
    DELIVERY,
    HOOK,
    add_secret,
    allow,
    sender,
    tell,
    told,
    waiting_senders,
)


@pytest.fixture(autouse=True)
def _secret(store: Store) -> None:
    add_secret(store)


def test_the_end_of_a_job_is_told_in_its_transaction(store: Store) -> None:
    job = running(store, callbacks=[HOOK], name="hw1", acl=document()["acl"])
    assert told(store) == []
    finish(store, job, FENCE, status_message="x" * 10_000, return_code=0, output="secret results")
    assert told(store) == [(job, "job.success", "PENDING")]
    (taken,) = store.deliveries.take(sender(store))
    body = json.loads(taken.delivery["body"])
    assert body["type"] == "job.success"
    data = body["data"]
    assert (data["id"], data["state"], data["name"]) == (job, "SUCCESS", "hw1")
    assert data["return-code"] == 0
    assert len(data["status-message"]) == 2_000
    assert "output" not in data
    assert taken.secret == "whsec_c2VjcmV0"


def test_a_job_without_callbacks_costs_nothing(store: Store) -> None:
    """Not a statement more, and no sender."""
    said: list[str] = []

    def listen(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        said.append(statement)

    sa.event.listen(sa.engine.Engine, "before_cursor_execute", listen)
    try:
        finish(store, running(store), FENCE)
    finally:
        sa.event.remove(sa.engine.Engine, "before_cursor_execute", listen)
    assert said
    assert not [statement for statement in said if "webhook" in statement]
    assert waiting_senders(store) == []


def ended_by_cancel(store: Store) -> str:
    job = add(store, callbacks=[HOOK])
    store.jobs.cancel(job, allow, None)
    return job


def ended_by_edit(store: Store) -> str:
    job = add(store, callbacks=[HOOK])
    store.jobs.edit(job, allow, lambda before: Edit({**before, "state": "FAILED"}), None)
    return job


def ended_by_expiry(store: Store) -> str:
    job = add(store, callbacks=[HOOK], expiry="2001-01-01T00:00:00.000Z")
    assert store.expiry.fail_expired() == 1
    return job


def ended_by_its_claim(store: Store) -> str:
    job = add(store, callbacks=[HOOK], expiry="2001-01-01T00:00:00.000Z")
    claim(store, job, entry(1), FENCE)
    return job


def ended_by_nobody_having_its_action(store: Store) -> str:
    job = add(store, "nobody_has_it", callbacks=[HOOK])
    assert store.feed.fail_orphans([], 0) == 1
    return job


def ended_by_deletion(store: Store) -> str:
    job = add(store, callbacks=[HOOK])
    store.jobs.delete(job, allow)
    return job


def ended_by_bulk_deletion(store: Store) -> str:
    job = add(store, callbacks=[HOOK])
    store.jobs.delete_where(jobs.c.id == job)
    return job


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        (ended_by_cancel, "job.canceled"),
        (ended_by_edit, "job.failed"),
        (ended_by_expiry, "job.failed"),
        (ended_by_its_claim, "job.failed"),
        (ended_by_nobody_having_its_action, "job.failed"),
        (ended_by_deletion, "job.canceled"),
        (ended_by_bulk_deletion, "job.canceled"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_every_way_to_end_is_told_once(store: Store, end: Any, kind: str) -> None:
    job = end(store)
    assert told(store) == [(job, kind, "PENDING")]
    assert len(waiting_senders(store)) == 1


def test_a_change_that_was_rolled_back_sends_no_message(store: Store) -> None:
    """The message is in the transaction of the change, and goes with it."""
    job = running(store, callbacks=[HOOK])
    finish(store, job, Fence(1, 1))  # an older claim
    with pytest.raises(ConflictError):
        store.jobs.edit(job, allow, lambda b: Edit({**b, "state": "SUCCESS"}), None)
    assert told(store) == []


def test_a_callback_names_its_states(store: Store) -> None:
    other = {**HOOK, "url": "https://other.example.org/", "states": ["RUNNING", "CANCELED"]}
    job = running(store, callbacks=[HOOK, other])
    assert told(store) == [(job, "job.running", "PENDING")]
    report(store, job, FENCE, ReportKind.RETRY)
    assert claim(store, job, entry(2), Fence(1, 11)).answer.runs
    assert [kind for _, kind, _ in told(store)] == ["job.running"] * 2  # it did run twice
    finish(store, job, Fence(1, 11), JobState.FAILED)
    assert [kind for _, kind, _ in told(store)].count("job.failed") == 1


def test_many_ends_have_one_sender_waiting(store: Store) -> None:
    for _ in range(5):
        tell(store)
    assert len(waiting_senders(store)) == 1
    first = sender(store)
    tell(store)  # the running one may have looked for the last time
    assert len(waiting_senders(store)) == 1
    assert waiting_senders(store) != [first.job]


def test_managers_who_see_a_job_see_its_deliveries(store: Store) -> None:
    acl = {
        "owners": ["group/nuvla-admin"],
        "manage": ["user/lms", "user/janitor"],
        "view-data": ["user/lms", "user/student"],
    }
    finish(store, running(store, callbacks=[HOOK], acl=acl), FENCE)
    (found,) = store.resources.where(resources.c.type == DELIVERY)
    shown = found.document["acl"]
    assert "user/lms" in shown["view-acl"]
    assert "user/lms" in shown["manage"]
    for other in ("user/student", "user/janitor"):
        assert other not in json.dumps(shown)
