"""Rules for edits by clients: which attributes may change, and what follows from a change."""

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
"""Attributes that only the holder of the claim may write while a job runs under a fence."""

_UNSETTLED: Final = ("seq", "id", "share", "created_ms", "created_by", "not_before_ms")
"""Columns that an edit never changes. After creation the engine alone writes `not-before`:
retries set it, and claims clear it."""


@dataclass(frozen=True)
class Edit:
    """The result of an edit, before it is written."""

    document: Document
    claims: bool = False
    """Whether it is the claim of a foreign consumer: an edit to RUNNING."""


def refuse_fenced(row: RowMapping, before: Document, after: Document) -> None:
    """Raise `ConflictError` for an edit that only the holder of the claim may make (fenced)."""
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
    """Return the columns that an edit writes; the time comes from `change_time`."""
    after = dict(edit.document)
    if after.get("tags") == before.get("tags") and "tags" not in row["document"]:
        after.pop("tags", None)  # they still are the path of the queue entry
    columns = {k: v for k, v in split(after).items() if k not in _UNSETTLED}
    columns = settle(row, columns, now_ms)
    columns |= {**touch(now_ms, by), "given_priority": None}
    if edit.claims:
        columns |= {"fence_incarnation": None, "fence_czxid": None, "resumed": False}
        columns |= {"claimed_by": by, "claimed_ms": now_ms, "not_before_ms": None}
    elif _is_left_to_agents(columns):
        # Otherwise it would occupy the window until an agent takes it. An executor that
        # claims the entry is answered `not-due`, and consumes it.
        columns["entry"] = None
    return columns


def change_time(row: RowMapping, now_ms: int) -> int:
    """Return the current time, or one millisecond after the row's last change if that is later.

    So `updated` grows with every edit, also within a millisecond or after the clock was set back.
    """
    return max(now_ms, int(row["updated_ms"]) + 1)


def _is_left_to_agents(columns: Mapping[str, Any]) -> bool:
    waits = columns["state"] == JobState.QUEUED
    return bool(waits and columns["execution_mode"] == ExecutionMode.PULL)
