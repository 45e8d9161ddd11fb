"""The audit trail: which caller requested what, on which resource, when, in which request.

A line is written in the transaction of the change that it records, so there are both or
neither. Nothing changes a line afterwards; old ones are deleted. Reports of executors and
distributors are no part of the trail: `jobs/events.py` and the jobs themselves have those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, RowMapping, delete, insert, select

from job_engine.model.acl import ADMIN, normalise
from job_engine.model.timestamps import format_ms
from job_engine.store.base import Clock, Database, Document, write_json
from job_engine.store.prepared import PreparedWrite
from job_engine.store.tables import audit

FORGET_BATCH: Final = 1_000
"""Lines deleted in one transaction, so that other writes do not wait long."""

Also = Callable[[Connection], None]
"""Runs in the transaction of a write, in addition to it; raising undoes the write."""


def nothing(_connection: Connection) -> None:
    """Do nothing: an `Also` for writes that need none."""


@dataclass(frozen=True)
class Line:
    """One line of the trail: an operation that succeeded or was refused."""

    name: str
    """`<type>.<operation>`, such as `job.cancel`."""
    resource: str | None = None
    user_id: str | None = None
    document: Mapping[str, Any] = field(default_factory=dict)
    """Further attributes of the event's document."""


class Audit:
    """Writes the trail, and deletes its old lines."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def append(self, connection: Connection, lines: Sequence[Line]) -> None:
        """Add lines in the caller's transaction."""
        now_ms = self._clock()
        # A bulk create's lines share their document.
        documents = {id(line.document): line.document for line in lines}
        texts = {key: write_json(document) for key, document in documents.items()}
        rows = [
            (now_ms, line.name, line.resource, line.user_id, texts[id(line.document)])
            for line in lines
        ]
        _APPEND.later(connection, [dict(zip(_COLUMNS, row, strict=True)) for row in rows])

    def record(self, line: Line) -> None:
        """Add a line in a transaction of its own."""
        self._database.write(lambda c: self.append(c, [line]))

    def find(self, number: int, visible: ColumnElement[bool] | None) -> Document | None:
        """Return a line by number if it is `visible`, else None; `visible` None: all lines are."""
        query = select(audit).where(audit.c.id == number)
        if visible is not None:
            query = query.where(visible)
        row = self._database.read(lambda c: c.execute(query).mappings().first())
        return None if row is None else assemble_line(row)

    def forget_older(self, than_s: float) -> int:
        """Delete lines older than `than_s` seconds; return how many there were."""
        before_ms = self._clock() - round(than_s * 1000)
        old = select(audit.c.id).where(audit.c.at_ms < before_ms).limit(FORGET_BATCH)
        forgotten = 0
        while self._database.read(lambda c: c.execute(old.limit(1)).first()):
            forgotten += self._database.write(
                lambda c: c.execute(delete(audit).where(audit.c.id.in_(old))).rowcount
            )
        return forgotten


_COLUMNS: Final = ("at_ms", "name", "resource", "user_id", "document")
_APPEND: Final = PreparedWrite(insert(audit), _COLUMNS)


def assemble_line(row: RowMapping) -> Document:
    """Make the CIMI document of a row."""
    at = format_ms(row["at_ms"])
    document: Document = {
        "id": f"event/{row['id']}",
        "resource-type": "event",
        "created": at,
        "updated": at,
        "timestamp": at,
        "name": row["name"],
        **row["document"],
        # It cannot be edited or deleted, and the rights on its resource decide who may see it.
        "acl": normalise({"owners": [ADMIN]}),
    }
    if row["resource"] is not None:
        content = document.get("content", {})
        document["content"] = {"resource": {"href": row["resource"]}, **content}
    if row["user_id"] is not None:
        document["authn-info"] = {"user-id": row["user_id"], **document.get("authn-info", {})}
    return document
