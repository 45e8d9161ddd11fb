"""Conversion between rows of the table `jobs` and CIMI documents.

`FIELDS` lists the attributes that are stored in columns; all others are in the row's JSON.
`assemble` and `split` are inverse to each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from sqlalchemy import RowMapping

from job_engine.model import DEFAULT_PRIORITY, ExecutionMode, Fence, Job, JobState
from job_engine.model.timestamps import format_ms, parse_ms
from job_engine.store.base import Document

ENTRIES_PATH: Final = "/job/entries/"
"""Prefix of a queue entry's name in the `tags` of a pushed job."""


class Kind(Enum):
    """How an attribute is stored in its column, and compared."""

    TEXT = "text"
    INTEGER = "integer"
    DATE = "date"
    """Epoch milliseconds; a CIMI timestamp in the document."""


@dataclass(frozen=True)
class Field:
    """An attribute that is stored in a column."""

    name: str
    column: str
    kind: Kind = Kind.TEXT


FIELDS: Final = (
    Field("id", "id"),
    Field("created", "created_ms", Kind.DATE),
    Field("updated", "updated_ms", Kind.DATE),
    Field("created-by", "created_by"),
    Field("updated-by", "updated_by"),
    Field("action", "action"),
    Field("state", "state"),
    Field("progress", "progress", Kind.INTEGER),
    Field("priority", "given_priority", Kind.INTEGER),
    Field("execution-mode", "execution_mode"),
    Field("version", "version", Kind.INTEGER),
    Field("started", "started_ms", Kind.DATE),
    Field("duration", "duration", Kind.INTEGER),
    Field("expiry", "expiry_ms", Kind.DATE),
    Field("not-before", "not_before_ms", Kind.DATE),
    Field("return-code", "return_code", Kind.INTEGER),
    Field("status-message", "status_message"),
    Field("time-of-status-change", "status_changed_ms", Kind.DATE),
    Field("parent", "parent"),
    Field("parent-job", "parent_job"),
    Field("payload", "payload"),
    Field("output", "output"),
)

_NAMES: Final = frozenset(field.name for field in FIELDS)
_ASSEMBLED: Final = [(field.name, field.column, field.kind is Kind.DATE) for field in FIELDS]


def assemble(row: RowMapping | Mapping[str, Any]) -> Document:
    """Make the CIMI document of a row."""
    document: Document = {"id": row["id"], "resource-type": "job"}
    for name, column, is_date in _ASSEMBLED:
        value = row[column]
        if value is not None:
            document[name] = format_ms(value) if is_date else value
    document.update(row["document"])
    if row["entry"] is not None and "tags" not in document:
        # Until a client edits the tags, they hold the path of the job's queue entry.
        document["tags"] = [ENTRIES_PATH + row["entry"]]
    return document


def split(document: Document) -> dict[str, Any]:
    """Return the columns of a valid CIMI document, without the engine's own columns."""
    columns: dict[str, Any] = {}
    for field in FIELDS:
        value = document.get(field.name)
        if value is not None and field.kind is Kind.DATE:
            value = parse_ms(value)
        columns[field.column] = value
    columns["target_href"] = (document.get("target-resource") or {}).get("href")
    columns["notifies"] = bool(document.get("callbacks"))
    columns["share"] = document.get("parent") or document.get("created-by") or ""
    dropped = _NAMES | {"resource-type", "operations"}
    columns["document"] = {k: v for k, v in document.items() if k not in dropped}
    return columns


def new_row(document: Document) -> dict[str, Any]:
    """Return the columns of a new job: those of `split`, and the engine's own columns."""
    priority = document.get("priority")
    return {
        **split(document),
        "priority": DEFAULT_PRIORITY if priority is None else priority,
        "entry": None,
        "fence_incarnation": None,
        "fence_czxid": None,
        "resumed": False,
        "claimed_by": None,
        "attempts": 0,
        "interruptions": 0,
        "scheduled_tick_ms": None,
    }


def to_job(row: RowMapping | Mapping[str, Any], *, whole: bool = True) -> Job:
    """Return a row as a `Job`; its `document` is empty unless `whole`."""
    fence = None
    if row["fence_czxid"] is not None:
        fence = Fence(row["fence_incarnation"], row["fence_czxid"])
    return Job(
        id=row["id"],
        action=row["action"],
        state=JobState(row["state"]),
        priority=row["priority"],
        execution_mode=ExecutionMode(row["execution_mode"]),
        version=row["version"],
        created_ms=row["created_ms"],
        not_before_ms=row["not_before_ms"],
        expiry_ms=row["expiry_ms"],
        entry=row["entry"],
        share=row["share"],
        fence=fence,
        resumed=row["resumed"],
        attempts=row["attempts"],
        interruptions=row["interruptions"],
        payload=row["payload"],
        document=assemble(row) if whole else {},
    )
