"""The repository of jobs for API clients: create, read, edit, cancel, delete."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, select

from job_engine.errors import ConflictError, NotFoundError
from job_engine.model import FINAL_STATES, Job, JobState
from job_engine.store.access.audiences import forget, unused
from job_engine.store.audit import Also, nothing
from job_engine.store.base import Clock, Database, Document
from job_engine.store.jobs.changes import DELETED, WHOLE, delete_rows, row_of, write_row
from job_engine.store.jobs.documents import assemble, to_job
from job_engine.store.jobs.edits import Edit, change_time, edited, refuse_fenced
from job_engine.store.jobs.inserts import insert_jobs
from job_engine.store.jobs.transitions import finished, touch
from job_engine.store.tables import is_unfinished, jobs

EDIT_OF_FINAL: Final = "edit is not allowed in final state"
BATCH: Final = 500
"""Jobs deleted or cancelled in one transaction, so that other writes do not wait long."""

AUDIENCES: Final = 500
"""Audiences that are checked for jobs in one transaction."""

_EVER_S: Final = 10_000 * 366 * 86_400.0
"""Longest age in seconds; larger numbers do not fit a column."""

FollowUp = Callable[[Document], Document | None]
"""Returns a further job to create for a cancelled one, or None."""

Authorise = Callable[[Document], None]
"""Checks the stored document, and raises to refuse."""


class Jobs:
    """Jobs as CIMI documents. Every write is durable, with its event, when it returns."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._audience = ""  # the last one that was checked

    # --- reading ---------------------------------------------------------------

    def get(self, job_id: str) -> Document:
        """Return the document of a job. Raises `NotFoundError`."""
        return assemble(self._row(job_id))

    def get_job(self, job_id: str) -> Job:
        """Return a job as the engine sees it. Raises `NotFoundError`."""
        return to_job(self._row(job_id))

    def _row(self, job_id: str) -> dict[str, Any]:
        found = self._database.read_one(lambda c: WHOLE.by_id(c, ids=[job_id]))
        if job_id not in found:
            raise NotFoundError(f"{job_id} not found")
        return found[job_id]

    # --- creating --------------------------------------------------------------

    def add(self, document: Document) -> Document:
        """Store one new job; see `add_many`."""
        return self.add_many([document])[0]

    def add_many(self, documents: Sequence[Document], also: Also = nothing) -> Sequence[Document]:
        """Store new jobs in order, all or none, and run `also` in the transaction.

        The documents have to be valid, with an `id` and a normalised `acl`; times are set
        here. Raises `ConflictError` for an existing id.
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
        `also` runs in the transaction, with both documents.
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
                refuse_fenced(row, before, edit.document)
            now_ms = change_time(row, self._clock())
            after = write_row(connection, row, edited(row, before, edit, by, now_ms), now_ms)
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

        `follow_up` may return a further job, which the same transaction creates; `also` runs
        in it too.
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
            delete_rows(connection, [row], self._clock())
            also(connection)

        self._database.write(unit)

    def delete_where(self, condition: ColumnElement[bool]) -> int:
        """Delete the jobs that match, in batches; return how many there were.

        They are selected by reads with a time limit: without an index, selecting them in
        the write transaction would block all writers.
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
        """Delete rights of audiences without jobs, some at a time; return the number of rows."""
        seen = self._database.read(lambda c: unused(c, self._audience, AUDIENCES))
        self._audience = seen[-1][0] if len(seen) == AUDIENCES else ""
        names = [name for name, is_unused in seen if is_unused]
        return self._database.write(lambda c: forget(c, names)) if names else 0

    def _cancel(
        self, connection: Connection, row: RowMapping, by: str | None, follow_up: FollowUp | None
    ) -> Document:
        now_ms = change_time(row, self._clock())
        columns = {
            **finished(row, JobState.CANCELED, now_ms),
            **touch(now_ms, by),
            "given_priority": None,
        }
        cancelled = write_row(connection, row, columns, now_ms)
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
        # Jobs that have changed in the meantime and match no more are kept.
        query = select(*jobs.c[DELETED]).where(jobs.c.seq.in_(seqs), condition)
        rows = connection.execute(query.order_by(jobs.c.seq)).mappings().all()
        delete_rows(connection, rows, self._clock())
        return len(rows)
