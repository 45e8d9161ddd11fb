"""Jobs as API clients see them: create, read, edit, cancel, delete."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    and_,
    bindparam,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from job_engine.errors import ConflictError, NotFoundError
from job_engine.model import FINAL_STATES, ExecutionMode, Job, JobState
from job_engine.model.acl import Acl
from job_engine.store import events, fairness, outbox, tally
from job_engine.store.audiences import admit, audience_of, forget, unused
from job_engine.store.audit import Also, nothing
from job_engine.store.base import Clock, Database, Document
from job_engine.store.documents import assemble, new_row, split, to_job
from job_engine.store.many import Many, Rows
from job_engine.store.tables import is_unfinished, jobs
from job_engine.store.transitions import finished, settle, touch

EDIT_OF_FINAL: Final = "edit is not allowed in final state"
BATCH: Final = 500
"""Jobs that one transaction deletes or cancels, so that it holds nobody else up for long."""

AUDIENCES: Final = 500
"""Audiences that are looked at in one go, whether they still have jobs."""

_EVER_S: Final = 10_000 * 366 * 86_400.0
"""Longer ago than anything; a larger number has no room in a column."""

_GUARDED: Final = ("state", "progress", "status-message", "output", "return-code")
"""What only the holder of the claim may write while a job runs under a fence."""

_DELETED: Final = (
    *("seq", "id", "action", "priority", "state", "entry", "share", "version", "notifies"),
)
"""Columns that a deletion decides by."""

_UNSETTLED: Final = ("seq", "id", "share", "created_ms", "created_by", "not_before_ms")
"""Columns that an edit leaves as they are. `not-before` is the engine's after creation:
retries set it, and claims clear it."""

_INSERT: Final = Many(insert(jobs), [c.name for c in jobs.c if c.name not in ("seq", "claimed_ms")])

FollowUp = Callable[[Document], Document | None]
"""Makes a further job of one that was cancelled, where it needs one."""

Authorise = Callable[[Document], None]
"""Looks at the stored document, and raises to refuse."""


@dataclass(frozen=True)
class Edit:
    """What an edit makes of a document."""

    document: Document
    claims: bool = False
    """Whether it is a foreign consumer's claim: an edit to RUNNING."""


WHOLE: Final = Rows(select(jobs).where(jobs.c.id.in_(bindparam("ids", expanding=True))), many="ids")
"""All that is stored of some jobs."""


class Jobs:
    """The documents. Every write is durable, with its event, when it returns."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._audience = ""  # the last that was looked at, whether it has jobs

    # --- reading ---------------------------------------------------------------

    def get(self, job_id: str) -> Document:
        """Return the document of a job. Raises `NotFoundError`."""
        return assemble(self._row(job_id))

    def get_job(self, job_id: str) -> Job:
        """Return a job as the engine sees it. Raises `NotFoundError`."""
        return to_job(self._row(job_id))

    def _row(self, job_id: str) -> dict[str, Any]:
        found = self._database.glance(lambda c: WHOLE.by_id(c, ids=[job_id]))
        if job_id not in found:
            raise NotFoundError(f"{job_id} not found")
        return found[job_id]

    # --- creating --------------------------------------------------------------

    def add(self, document: Document) -> Document:
        """Store one new job; see `add_many`."""
        return self.add_many([document])[0]

    def add_many(self, documents: Sequence[Document], also: Also = nothing) -> Sequence[Document]:
        """Store new jobs, all or none, in their order, and do `also` in the transaction.

        The documents are valid, have an `id` and a normalised `acl`, and get their
        times here. Raises `ConflictError` for an id that exists.
        """

        def unit(connection: Connection) -> Sequence[Document]:
            stored = insert_jobs(connection, documents, self._clock())
            also(connection)
            return stored

        return self._database.write(unit)

    # --- changing --------------------------------------------------------------

    def edit(
        self,
        job_id: str,
        authorise: Authorise,
        change: Callable[[Document], Edit],
        by: str | None,
        also: Callable[[Connection, Document, Document], None] = lambda *_: None,
    ) -> Document:
        """Edit a job without a fence, as a client does.

        `authorise` sees the stored document first and may refuse; then a final job is
        a conflict; then `change` makes the new document. An edit to RUNNING is a
        foreign consumer's claim: it clears the fence. Any other edit of what a fenced
        claim holder writes is a conflict while the job runs.
        `also` belongs to the transaction, and is given both documents.
        Raises `NotFoundError`, `ConflictError`, and what the functions raise.
        """

        def unit(connection: Connection) -> Document:
            row = row_of(connection, job_id)
            before = assemble(row)
            authorise(before)
            if JobState(before["state"]).is_final:
                raise ConflictError(EDIT_OF_FINAL)
            edit = change(before)
            if not edit.claims:
                _refuse_fenced(row, before, edit.document)
            columns = self._edited(row, before, edit, by)
            after = _write(connection, row, columns, columns["updated_ms"])
            also(connection, before, after)
            return after

        return self._database.write(unit)

    def cancel(
        self,
        job_id: str,
        authorise: Authorise,
        by: str | None,
        follow_up: FollowUp | None = None,
        also: Also = nothing,
    ) -> Document:
        """Move an unfinished job to CANCELED; `authorise` may refuse.

        `follow_up` may make a further job of the cancelled one, in the same transaction;
        `also` is done in it too.
        Raises `NotFoundError`, and what `authorise` raises, which also has to refuse
        final jobs.
        """

        def unit(connection: Connection) -> Document:
            row = row_of(connection, job_id)
            authorise(assemble(row))
            if JobState(row["state"]).is_final:
                raise ConflictError(EDIT_OF_FINAL)
            cancelled = self._cancel(connection, row, by, follow_up)
            also(connection)
            return cancelled

        return self._database.write(unit)

    def cancel_children(self, parent: str, by: str | None, follow_up: FollowUp) -> int:
        """Cancel the unfinished children of a job, in batches; returns how many there were."""
        cancelled = 0
        while batch := self._database.write(partial(self._cancel_batch, parent, by, follow_up)):
            cancelled += batch
        return cancelled

    def delete(self, job_id: str, authorise: Authorise, also: Also = nothing) -> None:
        """Delete a job in any state. Raises `NotFoundError`, and what `authorise` raises."""

        def unit(connection: Connection) -> None:
            row = row_of(connection, job_id)
            authorise(assemble(row))
            _delete_rows(connection, [row], self._clock())
            also(connection)

        self._database.write(unit)

    def delete_where(self, condition: ColumnElement[bool]) -> int:
        """Delete the jobs that match, in batches, and return how many there were.

        They are looked for as a search is, within its time: what has no index would hold
        every writer up.
        """
        deleted = 0
        after = 0
        found = select(jobs.c.seq).where(condition).order_by(jobs.c.seq).limit(BATCH)
        while True:
            page = found.where(jobs.c.seq > after)
            seqs = self._database.read(lambda c, page=page: c.execute(page).scalars().all())  # type: ignore[misc]
            if not seqs:
                return deleted
            deleted += self._database.write(partial(self._delete_batch, condition, seqs))
            after = seqs[-1]

    def delete_old(self, older_than_s: float) -> int:
        """Delete final jobs created that long ago, and return how many there were."""
        before_ms = self._clock() - round(min(older_than_s, _EVER_S) * 1000)
        return self.delete_where(
            and_(jobs.c.state.in_(FINAL_STATES), jobs.c.created_ms < before_ms)
        )

    def forget_audiences(self) -> int:
        """Forget rights on jobs that are gone, some at a time; returns how many rows that were."""
        seen = self._database.read(lambda c: unused(c, self._audience, AUDIENCES))
        self._audience = seen[-1][0] if len(seen) == AUDIENCES else ""
        names = [name for name, is_unused in seen if is_unused]
        return self._database.write(lambda c: forget(c, names)) if names else 0

    def _cancel(
        self, connection: Connection, row: RowMapping, by: str | None, follow_up: FollowUp | None
    ) -> Document:
        now_ms = self._after(row)
        columns = {
            **finished(row, JobState.CANCELED, now_ms),
            **touch(now_ms, by),
            "given_priority": None,
        }
        cancelled = _write(connection, row, columns, now_ms)
        further = None if follow_up is None else follow_up(cancelled)
        if further is not None:
            insert_jobs(connection, [further], now_ms)
        return cancelled

    def _cancel_batch(
        self, parent: str, by: str | None, follow_up: FollowUp, connection: Connection
    ) -> int:
        query = (
            select(jobs)
            .where(jobs.c.parent_job == parent, is_unfinished())
            .order_by(jobs.c.seq)
            .limit(BATCH)
            .with_for_update()
        )
        rows = connection.execute(query).mappings().all()
        for row in rows:
            self._cancel(connection, row, by, follow_up)
        return len(rows)

    def _delete_batch(
        self, condition: ColumnElement[bool], seqs: Sequence[int], connection: Connection
    ) -> int:
        # What has changed meanwhile, and matches no more, stays.
        query = select(*jobs.c[_DELETED]).where(jobs.c.seq.in_(seqs), condition)
        rows = connection.execute(query.order_by(jobs.c.seq)).mappings().all()
        _delete_rows(connection, rows, self._clock())
        return len(rows)

    # --- the rules of an edit --------------------------------------------------

    def _edited(
        self, row: RowMapping, before: Document, edit: Edit, by: str | None
    ) -> dict[str, Any]:
        after = dict(edit.document)
        if after.get("tags") == before.get("tags") and "tags" not in row["document"]:
            after.pop("tags", None)  # still what the queue says, not what a client wants
        now_ms = self._after(row)
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

    def _after(self, row: RowMapping) -> int:
        """Return the time, and in any case a later one than of the last change.

        So `updated` grows with every edit, within a millisecond and with a clock set back.
        """
        return max(self._clock(), int(row["updated_ms"]) + 1)


def _is_left_to_agents(columns: Mapping[str, Any]) -> bool:
    waits = columns["state"] == JobState.QUEUED
    return bool(waits and columns["execution_mode"] == ExecutionMode.PULL)


def _refuse_fenced(row: RowMapping, before: Document, after: Document) -> None:
    if row["fence_czxid"] is None or row["state"] != JobState.RUNNING:
        return
    changed = [name for name in _GUARDED if before.get(name) != after.get(name)]
    if changed:
        raise ConflictError(
            f"edit of {changed[0]} is not allowed while an executor runs the job; cancel it"
        )


def row_of(connection: Connection, job_id: str) -> RowMapping:
    """Return a job's row, locked for the rest of the transaction where several write at once.

    Raises `NotFoundError`.
    """
    query = select(jobs).where(jobs.c.id == job_id).with_for_update()
    row = connection.execute(query).mappings().first()
    if row is None:
        raise NotFoundError(f"{job_id} not found")
    return row


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
    if len(rows) == 1:
        conflict = ConflictError(f"conflict with {rows[0]['id']}")
        written = [{**row, "document": _text(row["document"])} for row in rows]
        _INSERT.later(
            connection,
            written,
            lambda error: conflict if isinstance(error, IntegrityError) else error,
        )
        return
    try:
        # A savepoint, for PostgreSQL answers nothing more in a transaction that failed.
        with connection.begin_nested():
            connection.execute(insert(jobs), rows)
    except IntegrityError as error:
        raise ConflictError(f"conflict with {_taken(connection, rows)}") from error


def _text(document: Document) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _taken(connection: Connection, rows: Sequence[dict[str, Any]]) -> Any:
    """Return which of several ids exists."""
    known = select(jobs.c.id).where(jobs.c.id.in_([row["id"] for row in rows])).limit(1)
    # None: one id is twice among them.
    return connection.execute(known).scalar() or "another one of the same request"


def tell_callbacks(
    connection: Connection, rows: Sequence[Any], now_ms: int, state: JobState | None = None
) -> None:
    """Write what those of these jobs that have callbacks tell of the state they are in now."""
    ids = [row["id"] for row in rows if row["notifies"]]
    if ids:
        outbox.tell(connection, ids, now_ms, insert_jobs, state)


def _write(
    connection: Connection, row: RowMapping, columns: dict[str, Any], now_ms: int
) -> Document:
    """Write columns where nobody else has moved the job meanwhile, with the event."""
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
        raise ConflictError(f"{row['id']} was changed by somebody else; try again")
    after = {**row, **columns}
    tally.replace(connection, [row], [after])
    if after["state"] != row["state"]:
        events.append(connection, now_ms, row, JobState(after["state"]), after["entry"])
        tell_callbacks(connection, [row], now_ms)
    _settle_shares(connection, row, after, now_ms)
    return assemble(after)


def _settle_shares(
    connection: Connection, before: RowMapping, after: Mapping[str, Any], now_ms: int
) -> None:
    """Charge the share of a job that was fed and is over; give one that is ready its lane."""
    over = JobState(after["state"]).is_final or after["entry"] is None
    if over and before["entry"] is not None:
        ran = before["state"] == JobState.RUNNING and before["claimed_ms"] is not None
        taken_s = max(0, now_ms - before["claimed_ms"]) / 1000 if ran else 0.0
        fairness.settle(connection, [before], [taken_s])
    fairness.open_lanes(connection, [after])


def _delete_rows(connection: Connection, rows: Sequence[RowMapping], now_ms: int) -> None:
    if not rows:
        return
    seqs = [row["seq"] for row in rows]
    unfinished = [row for row in rows if row["state"] not in FINAL_STATES]
    tell_callbacks(connection, unfinished, now_ms, JobState.CANCELED)
    connection.execute(delete(jobs).where(jobs.c.seq.in_(seqs)))
    waited = [row for row in rows if row["state"] == JobState.QUEUED and row["entry"] is not None]
    fairness.settle(connection, waited, [0.0] * len(waited))
    # Who carries or runs an unfinished one has to let go of it, as after a cancel.
    ended = [{**row, "state": JobState.CANCELED} for row in unfinished]
    events.append_many(connection, now_ms, ended)
