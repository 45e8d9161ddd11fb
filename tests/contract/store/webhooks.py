"""Helpers for tests of webhooks in the store: jobs that end, senders, results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from job_engine.model import Fence
from job_engine.model.webhooks import ACTION, SendResult
from job_engine.store.base import Document
from job_engine.store.resources import Resource
from job_engine.store.store import Store
from job_engine.store.tables import jobs, resources
from job_engine.store.webhooks.deliveries import DueMessage
from job_engine.store.webhooks.results import Claimed
from tests.contract.store.support import (
    FENCE,
    claim,
    entry,
    finish,
    running,
)

SECRET = "webhook-secret/11111111-1111-1111-1111-111111111111"
HOOK = {"url": "https://lms.example.org/hook", "secret": SECRET}


def allow(_document: Document) -> None:
    """Authorise anything."""


def told(store: Store) -> list[tuple[str, str, str]]:
    """Job, type and state of every delivery, in the order they were made."""
    found = [r.document for r in store.resources.where(resources.c.type == DELIVERY)]
    return [(d["job"], d["type"], d["state"]) for d in found]


DELIVERY = "webhook-delivery"


def waiting_senders(store: Store) -> list[str]:
    """The senders that are QUEUED."""
    query = sa.select(jobs.c.id).where(jobs.c.action == ACTION, jobs.c.state == "QUEUED")
    return list(store.database.read(lambda c: c.execute(query).scalars().all()))


def sender(store: Store, fence: Fence = FENCE) -> Claimed:
    """A sender that runs."""
    job = waiting_senders(store)[0]
    assert claim(store, job, entry(900), fence, actions=(ACTION,)).answer.runs
    return Claimed(job, fence)


def tell(store: Store, *hooks: Document) -> str:
    """A job that has just ended, and told it."""
    job = running(store, callbacks=list(hooks or (HOOK,)))
    finish(store, job, FENCE)
    return job


def answered(
    taken: Sequence[DueMessage], status: int | None = 204, **more: Any
) -> list[SendResult]:
    """The same answer to all of these messages."""
    return [
        SendResult(delivery=t.delivery["id"], attempt=t.attempt, status=status, **more)
        for t in taken
    ]


def add_secret(store: Store) -> None:
    """Store the secret that `HOOK` names."""
    secret = {"id": SECRET, "acl": {"owners": ["user/teacher"]}}
    store.resources.add(Resource(secret, "whsec_c2VjcmV0"))
