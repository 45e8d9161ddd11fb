"""The rules of a client's edit: what it may change of a job, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import RowMapping

from job_engine.errors import ConflictError
from job_engine.model import ExecutionMode, JobState
from job_engine.store.base import Document
from job_engine.store.jobs.documents import split
from job_engine.store.jobs.transitions import settle, touch

_GUARDED: Final = ("state", "progress", "status-message", "output", "return-code")
"""What only the holder of the claim may write while a job runs under a fence."""

_UNSETTLED: Final = ("seq", "id", "share", "created_ms", "created_by", "not_before_ms")
"""Columns that an edit leaves as they are. `not-before` is the engine's after creation:
retries set it, and claims clear it."""


@dataclass(frozen=True)
class Edit:
    """What an edit makes of a document."""

    document: Document
    claims: bool = False
    """Whether it is a foreign consumer's claim: an edit to RUNNING."""


def refuse_fenced(row: RowMapping, before: Document, after: Document) -> None:
    """Raise `ConflictError` for an edit of what only the holder of a fenced claim may write."""
    if row["fence_czxid"] is None or row["state"] != JobState.RUNNING:
        return
    changed = [name for name in _GUARDED if before.get(name) != after.get(name)]
    if changed:
        raise ConflictError(
            f"edit of {changed[0]} is not allowed while an executor runs the job; cancel it"
        )


def edited(
    row: RowMapping, before: Document, edit: Edit, by: str | None, now_ms: int
) -> dict[str, Any]:
    """Return the columns that an edit writes, at a time that `change_time` gave."""
    after = dict(edit.document)
    if after.get("tags") == before.get("tags") and "tags" not in row["document"]:
        after.pop("tags", None)  # still what the queue says, not what a client wants
    columns = {k: v for k, v in split(after).items() if k not in _UNSETTLED}
    columns = settle(row, columns, now_ms)
    columns |= {**touch(now_ms, by), "given_priority": None}
    if edit.claims:
        columns |= {"fence_incarnation": None, "fence_czxid": None, "resumed": False}
        columns |= {"claimed_by": by, "claimed_ms": now_ms, "not_before_ms": None}
    elif _is_left_to_agents(columns):
        # Or it would fill the window until an agent comes; whoever meets the entry
        # in the queue is told that it is not due, and consumes it.
        columns["entry"] = None
    return columns


def change_time(row: RowMapping, now_ms: int) -> int:
    """Return the time, and in any case a later one than of the row's last change.

    So `updated` grows with every edit, within a millisecond and with a clock set back.
    """
    return max(now_ms, int(row["updated_ms"]) + 1)


def _is_left_to_agents(columns: Mapping[str, Any]) -> bool:
    waits = columns["state"] == JobState.QUEUED
    return bool(waits and columns["execution_mode"] == ExecutionMode.PULL)
