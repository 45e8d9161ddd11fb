"""Reading, changing and deleting stored jobs within a transaction, with what depends on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, and_, bindparam, delete, select, update

from job_engine.errors import ConflictError, NotFoundError
from job_engine.model import FINAL_STATES, JobState
from job_engine.store.access.audiences import admit, audience_of
from job_engine.store.base import Document
from job_engine.store.fair_share import fairness
from job_engine.store.jobs import events, outbox, tally
from job_engine.store.jobs.documents import assemble
from job_engine.store.jobs.inserts import insert_jobs
from job_engine.store.prepared import PreparedRead
from job_engine.store.tables import jobs

WHOLE: Final = PreparedRead(
    select(jobs).where(jobs.c.id.in_(bindparam("ids", expanding=True))), many="ids"
)
"""Whole rows of jobs, by id."""

DELETED: Final = (
    *("seq", "id", "action", "priority", "state", "entry", "share", "version", "notifies"),
)
"""Columns that a deletion needs."""


def row_of(connection: Connection, job_id: str) -> RowMapping:
    """Return a job's row, locked until the transaction ends on databases with several writers.

    Raises `NotFoundError`.
    """
    query = select(jobs).where(jobs.c.id == job_id).with_for_update()
    row = connection.execute(query).mappings().first()
    if row is None:
        raise NotFoundError(f"{job_id} not found")
    return row


def write_row(
    connection: Connection, row: RowMapping, columns: dict[str, Any], now_ms: int
) -> Document:
    """Write columns and the event. Raises `ConflictError` if the job was changed meanwhile."""
    unmoved = and_(
        jobs.c.seq == row["seq"],
        jobs.c.state == row["state"],
        jobs.c.fence_incarnation.is_not_distinct_from(row["fence_incarnation"]),
        jobs.c.fence_czxid.is_not_distinct_from(row["fence_czxid"]),
    )
    if "document" in columns and columns["document"].get("acl") != row["document"].get("acl"):
        acl = columns["document"]["acl"]
        columns = {**columns, "audience": audience_of(acl)}
        admit(connection, {columns["audience"]: acl})
    if connection.execute(update(jobs).where(unmoved).values(columns)).rowcount != 1:
        raise ConflictError(f"{row['id']} was changed meanwhile; try again")
    after = {**row, **columns}
    tally.replace(connection, [row], [after])
    if after["state"] != row["state"]:
        events.append(connection, now_ms, row, JobState(after["state"]), after["entry"])
        notify_callbacks(connection, [row], now_ms)
    _settle_shares(connection, row, after, now_ms)
    return assemble(after)


def delete_rows(connection: Connection, rows: Sequence[RowMapping], now_ms: int) -> None:
    """Delete jobs, given their `DELETED` columns, with their events and callbacks."""
    if not rows:
        return
    seqs = [row["seq"] for row in rows]
    unfinished = [row for row in rows if row["state"] not in FINAL_STATES]
    notify_callbacks(connection, unfinished, now_ms, JobState.CANCELED)
    connection.execute(delete(jobs).where(jobs.c.seq.in_(seqs)))
    waited = [row for row in rows if row["state"] == JobState.QUEUED and row["entry"] is not None]
    fairness.settle(connection, waited, [0.0] * len(waited))
    # As after a cancel, the leader removes its entry, and its executor stops it.
    ended = [{**row, "state": JobState.CANCELED} for row in unfinished]
    events.append_many(connection, now_ms, ended)


def notify_callbacks(
    connection: Connection, rows: Sequence[Any], now_ms: int, state: JobState | None = None
) -> None:
    """Queue messages about the current states of those jobs that have callbacks."""
    ids = [row["id"] for row in rows if row["notifies"]]
    if ids:
        outbox.enqueue(connection, ids, now_ms, insert_jobs, state)


def _settle_shares(
    connection: Connection, before: RowMapping, after: Mapping[str, Any], now_ms: int
) -> None:
    """Charge the share of a fed job that has ended, or open the lane of one that is ready."""
    over = JobState(after["state"]).is_final or after["entry"] is None
    if over and before["entry"] is not None:
        ran = before["state"] == JobState.RUNNING and before["claimed_ms"] is not None
        taken_s = max(0, now_ms - before["claimed_ms"]) / 1000 if ran else 0.0
        fairness.settle(connection, [before], [taken_s])
    fairness.open_lanes(connection, [after])
