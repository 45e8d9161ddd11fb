"""The outbox: what jobs have to tell to whom, written when there is something to tell.

A message is written in the very transaction that makes a job what the message says, so
none is lost and none invented. It is two rows: the delivery, a resource that its owners
read, and the entry of the outbox, there as long as it still has to be sent. In the same
transaction a job of the action that sends is made, unless one waits already.

A job without callbacks costs a look at a column that was read in any case.
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
"""When a message that did not arrive is sent again: the last time about a day later."""
_PRIORITY: Final = 100
_MESSAGE_CHARS: Final = 2_000
"""Characters of a status message that are told."""
_TOLD: Final = (
    *("id", "action", "state", "progress", "status-message", "return-code"),
    *("name", "tags", "parent", "parent-job", "target-resource", "resubmitted-from"),
    *("created", "updated", "started", "duration"),
)
"""What a message says of its job: enough to know whether to ask for the rest."""

Create = Callable[[Connection, Sequence[Document], int], object]
"""Inserts jobs: `insert_jobs`, which stands above this module and is handed in."""


def enqueue(
    connection: Connection,
    ids: Sequence[str],
    now_ms: int,
    create: Create,
    state: JobState | None = None,
) -> None:
    """Write what these jobs, which all have callbacks, tell about the state they are in.

    `state` is said instead for jobs that are about to be deleted.
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
    """Make the columns of what has to be sent, from now on and as often as it may be."""
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
    """Return whose turn a message takes: its creator's first, then its destination's.

    Otherwise who names a thousand hosts would have a thousand turns.
    """
    creator = str(delivery["created-by"]).replace(" ", "_")
    return f"{creator} {Destination.parse(delivery['url'])}"


def ensure_sender(connection: Connection, due_ms: int, now_ms: int, create: Create) -> None:
    """Have a job of the sending action waiting that is due by then.

    One that runs does not count: it may have looked for the last time already.
    """
    if connection.execute(senders(due_ms)).first() is None:
        create(connection, [_sender(due_ms, now_ms)], now_ms)


def senders(due_ms: int) -> Select[Any]:
    """Return the senders that wait, and are due by then."""
    in_time = or_(jobs.c.not_before_ms.is_(None), jobs.c.not_before_ms <= due_ms)
    # One query a partial index: for all three together the backlog would be read.
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
    """Make the delivery of one message; its uuid is the message's id for ever."""
    job = assemble(row)
    kind = f"job.{str(job['state']).lower()}"
    told = {name: job[name] for name in _TOLD if name in job}
    if "status-message" in told:
        told["status-message"] = told["status-message"][:_MESSAGE_CHARS]
    body = {"type": kind, "timestamp": format_ms(now_ms), "data": told}
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
    """Show a delivery to who both manages its job and sees its data: it has the one in it."""
    managers = sorted({*acl.get("manage", [])} & {*acl.get("view-data", [])})
    return normalise({"owners": acl["owners"], "view-acl": managers, "manage": managers})
