"""The outbox: messages of webhooks, written in the transaction that changes a job.

So no message is lost, and none reports a change that was undone. A message has two rows: the
delivery, a resource that its owners read, and an entry of the outbox, which exists while the
message has to be sent. The same transaction creates a job of the action that sends messages,
unless one is waiting already.

Jobs without callbacks cost nothing: a column that was read anyway says so.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Select, insert, or_, select, union_all

from job_engine.model import SUPPORTED_VERSION, JobState
from job_engine.model.acl import ADMIN, Acl, normalise
from job_engine.model.timestamps import format_ms
from job_engine.model.webhooks import ACTION, default_states
from job_engine.plugins import RetryPolicy
from job_engine.store.base import Document
from job_engine.store.jobs.documents import assemble
from job_engine.store.resources import Resource, insert_resources
from job_engine.store.tables import is_ready, is_retrying, is_waiting, jobs, webhook_outbox
from job_engine.webhooks import Destination

RETRY: Final = RetryPolicy(max_attempts=16, backoff_s=4.0, max_backoff_s=6 * 3600.0)
"""Number and delays of the attempts to send a message; the last is about a day after the first."""
_PRIORITY: Final = 100
_MESSAGE_CHARS: Final = 2_000
"""Characters of the status message in a webhook."""
_REPORTED: Final = (
    *("id", "action", "state", "progress", "status-message", "return-code"),
    *("name", "tags", "parent", "parent-job", "target-resource", "resubmitted-from"),
    *("created", "updated", "started", "duration"),
)
"""Attributes of the job in a webhook; receivers read the rest from the API."""

Create = Callable[[Connection, Sequence[Document], int], object]
"""`insert_jobs`, passed in to avoid an import cycle."""


def enqueue(
    connection: Connection,
    ids: Sequence[str],
    now_ms: int,
    create: Create,
    state: JobState | None = None,
) -> None:
    """Queue messages about the current state of these jobs, all of which have callbacks.

    For jobs that are about to be deleted, `state` is reported instead.
    """
    rows = connection.execute(select(jobs).where(jobs.c.id.in_(ids))).mappings().all()
    deliveries = [
        _delivery({**row, "state": state or row["state"]}, callback, now_ms)
        for row in rows
        for callback in row["document"].get("callbacks", ())
        if (state or row["state"]) in callback.get("states", default_states())
    ]
    if not deliveries:
        return
    insert_resources(connection, [Resource(delivery) for delivery in deliveries], now_ms)
    connection.execute(
        insert(webhook_outbox),
        [new_entry(delivery, now_ms) for delivery in deliveries],
    )
    ensure_sender(connection, now_ms, now_ms, create)


def new_entry(delivery: Document, due_ms: int) -> dict[str, Any]:
    """Return the columns of an outbox entry with all its attempts left."""
    return {
        "id": delivery["id"],
        "destination": turn_of(delivery),
        "due_ms": due_ms,
        "attempts": delivery["attempts"],
        "tries_left": RETRY.max_attempts,
        "taken_by": None,
        "taken_incarnation": None,
        "taken_czxid": None,
    }


def turn_of(delivery: Document) -> str:
    """Return the key by which messages take turns: creator first, then destination.

    By destination alone, a creator with a thousand hosts would have a thousand turns.
    """
    creator = str(delivery["created-by"]).replace(" ", "_")
    return f"{creator} {Destination.parse(delivery['url'])}"


def ensure_sender(connection: Connection, due_ms: int, now_ms: int, create: Create) -> None:
    """Ensure that a job of the sending action waits and is due by `due_ms`.

    A running one does not count: it may have taken its last messages already.
    """
    if connection.execute(senders(due_ms)).first() is None:
        create(connection, [_sender(due_ms, now_ms)], now_ms)


def senders(due_ms: int) -> Select[Any]:
    """Select a waiting job of the sending action that is due by `due_ms`."""
    in_time = or_(jobs.c.not_before_ms.is_(None), jobs.c.not_before_ms <= due_ms)
    # One query for each partial index: a single one would read the whole backlog.
    found = [
        select(jobs.c.id).where(condition, jobs.c.action == ACTION, in_time)
        for condition in (is_ready(), is_waiting(), is_retrying())
    ]
    return select(union_all(*found).subquery()).limit(1)


def _sender(due_ms: int, now_ms: int) -> Document:
    document: Document = {
        "id": f"job/{uuid.uuid4()}",
        "action": ACTION,
        "state": "QUEUED",
        "progress": 0,
        "execution-mode": "push",
        "version": SUPPORTED_VERSION,
        "priority": _PRIORITY,
        "created-by": "internal",
        "acl": normalise({"owners": [ADMIN]}),
    }
    if due_ms > now_ms:
        document["not-before"] = format_ms(due_ms)
    return document


def _delivery(row: dict[str, Any], callback: Document, now_ms: int) -> Document:
    """Return the delivery of one message; its uuid is the message's id in every attempt."""
    job = assemble(row)
    kind = f"job.{str(job['state']).lower()}"
    data = {name: job[name] for name in _REPORTED if name in job}
    if "status-message" in data:
        data["status-message"] = data["status-message"][:_MESSAGE_CHARS]
    body = {"type": kind, "timestamp": format_ms(now_ms), "data": data}
    return {
        "id": f"webhook-delivery/{uuid.uuid4()}",
        "job": job["id"],
        "type": kind,
        "url": callback["url"],
        "secret": callback["secret"],
        "state": "PENDING",
        "attempts": 0,
        "next-attempt": format_ms(now_ms),
        "body": json.dumps(body, separators=(",", ":")),
        "created-by": job.get("created-by") or "internal",
        "acl": _acl(job["acl"]),
    }


def _acl(acl: Acl) -> Acl:
    """Return the ACL of a delivery: for those who manage the job and see its data."""
    managers = sorted({*acl.get("manage", [])} & {*acl.get("view-data", [])})
    return normalise({"owners": acl["owners"], "view-acl": managers, "manage": managers})
