"""Inserting jobs, with their rights, events, lanes and numbers, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from job_engine.errors import ConflictError
from job_engine.model.acl import Acl
from job_engine.store.access.audiences import admit, audience_of
from job_engine.store.base import Document, write_json
from job_engine.store.fair_share import fairness
from job_engine.store.jobs import events, tally
from job_engine.store.jobs.documents import assemble, new_row
from job_engine.store.prepared import PreparedWrite
from job_engine.store.tables import jobs

_INSERT: Final = PreparedWrite(
    insert(jobs), [c.name for c in jobs.c if c.name not in ("seq", "claimed_ms")]
)


def insert_jobs(
    connection: Connection, documents: Sequence[Document], now_ms: int
) -> Sequence[Document]:
    """Insert jobs with their rights and events; times are set here."""
    rows = []
    acls: dict[str, Acl] = {}
    for document in documents:
        row = new_row(document)
        row |= {"created_ms": now_ms, "updated_ms": now_ms}
        row["audience"] = audience_of(document["acl"])
        acls[row["audience"]] = document["acl"]
        if row["not_before_ms"] is not None and row["not_before_ms"] <= now_ms:
            row["not_before_ms"] = None
        if row["status_message"] is not None:
            row["status_changed_ms"] = now_ms
        rows.append(row)
    _store(connection, rows)
    fairness.open_lanes(connection, rows)
    admit(connection, acls)
    tally.add(connection, rows)
    events.append_many(connection, now_ms, rows)
    return [assemble(row) for row in rows]


def _store(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    written = [{**row, "document": write_json(row["document"])} for row in rows]
    if len(rows) == 1:
        conflict = ConflictError(f"conflict with {rows[0]['id']}")
        _INSERT.later(
            connection,
            written,
            lambda error: conflict if isinstance(error, IntegrityError) else error,
        )
        return
    try:
        # A savepoint, because PostgreSQL refuses further statements in a failed transaction.
        with connection.begin_nested():
            _INSERT.run(connection, written)
    except IntegrityError as error:
        raise ConflictError(f"conflict with {_taken(connection, rows)}") from error


def _taken(connection: Connection, rows: Sequence[dict[str, Any]]) -> Any:
    """Return one of the ids that exists already."""
    known = select(jobs.c.id).where(jobs.c.id.in_([row["id"] for row in rows])).limit(1)
    # None exists: one id is among them twice.
    return connection.execute(known).scalar() or "another one of the same request"
