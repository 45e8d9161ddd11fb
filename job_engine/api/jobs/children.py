"""Cancelling the children of a cancelled bulk job (docs/cimi.md §3.6, §6.4)."""

from __future__ import annotations

import uuid
from functools import partial
from typing import Final

from job_engine.api.identity import Identity
from job_engine.errors import ConflictError
from job_engine.model import SUPPORTED_VERSION, JobState
from job_engine.store.base import Document
from job_engine.store.store import Store

CANCEL_CHILDREN: Final = "cancel_children_jobs"
_PRIORITY: Final = 10


def for_children(who: Identity, cancelled: Document) -> Document | None:
    """Return the job that cancels a cancelled bulk job's children; None for any other job."""
    if not cancelled["action"].startswith("bulk"):
        return None
    target = {"href": cancelled["id"]}
    return {
        "id": f"job/{uuid.uuid4()}",
        "action": CANCEL_CHILDREN,
        "state": "QUEUED",
        "progress": 0,
        "execution-mode": "push",
        "version": SUPPORTED_VERSION,
        "priority": _PRIORITY,
        "created-by": who.creator,
        "target-resource": target,
        "affected-resources": [target],
        "acl": cancelled["acl"],
    }


def cancel_children(store: Store, who: Identity, parent: str) -> int:
    """Cancel the unfinished children of a cancelled job; return how many there were.

    A child that is a bulk job gets a job that cancels its own children. No right on the
    children is needed: their creator named the parent. Raises `NotFoundError`, and
    `ConflictError` for a job that was not cancelled.
    """
    if store.jobs.get(parent)["state"] != JobState.CANCELED:
        raise ConflictError(f"{parent} was not cancelled, so its children stay as they are")
    return store.jobs.cancel_children(parent, who.user_id, partial(for_children, who))
