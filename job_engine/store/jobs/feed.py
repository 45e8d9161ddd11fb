"""What distributors do with jobs: push them, record entries, fail those nobody can run.

The cost of a feed depends on the window, not on the backlog (bounded-window): it deals turns
to the first lanes (`fair_share/fairness.py`), and reads as many jobs of a lane as it has
turns. A retry that is not due is in another index, `jobs_retrying`, until it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, bindparam, func, or_, select, update

from job_engine.errors import ConflictError
from job_engine.model import ExecutionMode, JobState
from job_engine.model.protocol.feed import EntryItem, FeedReply, RecordedEntries
from job_engine.store.base import Clock, Database
from job_engine.store.fair_share import fairness
from job_engine.store.fair_share.refill import ANY_VERSION, Refill
from job_engine.store.jobs import events, tally
from job_engine.store.jobs.changes import notify_callbacks
from job_engine.store.jobs.transitions import finished_blind, message_columns
from job_engine.store.prepared import PreparedRead, PreparedWrite
from job_engine.store.tables import holds_entry, is_ready, is_retrying, jobs

PAGE: Final = 1000
"""Recorded entries in a page."""
_PROMOTED: Final = 1000
"""Due retries that one feed makes ready, at most."""
_ORPHANS: Final = 500
"""Jobs failed in one transaction."""


class Feed:
    """The distributor's part of the store."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def feed(self, action: str, window: int, newest_version: int = ANY_VERSION) -> FeedReply:
        """Return what to push now: by priority, then whose turn it is, then by age.

        A job is included while fewer than `window` waiting entries of its action are as
        urgent or more, counting jobs before it in the reply. Jobs and entries with a version
        above `newest_version` are ignored, because no live executor can run them.
        """
        now_ms = self._clock()
        while True:
            refill = Refill(action, window, newest_version)
            reply = self._database.read(refill.choose)
            due = reply.next_due_ms is not None and reply.next_due_ms <= now_ms
            if due:
                self._database.write(lambda c: _promote(c, action, now_ms))
            if refill.empty:
                # The jobs of these lanes were cancelled or edited; close the lanes.
                self._database.write(partial(fairness.close_empty, keys=refill.empty))
            if not due and (refill.complete or not refill.empty):
                return reply

    def pushed(self, entries: Sequence[EntryItem]) -> Sequence[bool]:
        """Record entries of waiting jobs that have none. True: the job has this entry now.

        That includes a job that had it already, because the leader repeats the message after
        a lost reply, and the entry's claim may have recorded it. The leader removes a refused
        entry from the queue.
        """
        return self.submit_pushed(entries).result()

    def submit_pushed(self, entries: Sequence[EntryItem]) -> Future[Sequence[bool]]:
        """Like `pushed`, without waiting."""

        def unit(connection: Connection) -> Sequence[bool]:
            rows = _NAMED.by_id(connection, ids=[item.job for item in entries])
            recorded: list[dict[str, Any]] = []
            written = [_record(rows.get(item.job), item.entry, recorded) for item in entries]
            if recorded:
                values = [
                    {"old_seq": r["seq"], "old_state": r["state"], "new_entry": r["entry"]}
                    for r in recorded
                ]
                if _RECORD.run(connection, values) != len(values):
                    raise ConflictError("A pushed job was changed meanwhile; record it again.")
                fairness.charge(connection, recorded)
            return written

        return self._database.submit(unit)

    def cleared(self, entries: Sequence[EntryItem]) -> Sequence[bool]:
        """Clear entries that are gone, if their jobs still have them. True: written.

        A job that runs under a claim of such an entry has lost the claim. It is QUEUED again,
        which counts as an interruption, and keeps its fence, so that later reports of the old
        run are refused. A job that a foreign consumer runs is left alone.
        """

        def unit(connection: Connection) -> Sequence[bool]:
            now_ms = self._clock()
            return [_clear(connection, item, now_ms) for item in entries]

        return self._database.write(unit) if entries else []

    def entries(self, action: str, after: str | None, limit: int = PAGE) -> RecordedEntries:
        """Return a page of the entries that unfinished jobs of `action` have, by job id."""
        rows = self._database.read(lambda c: c.execute(recorded(action, after, limit)).all())
        items = [EntryItem(job=row.id, entry=row.entry) for row in rows]
        return RecordedEntries(entries=items, next=items[-1].job if len(items) == limit else None)

    def fail_orphans(self, live_actions: Sequence[str], grace_s: float) -> int:
        """Fail unpushed jobs of actions that no executor has; return how many there were."""
        before_ms = self._clock() - round(grace_s * 1000)
        failed = 0
        for action in self._database.read(_unpushed_actions):
            if action in live_actions:
                continue
            while batch := self._database.write(partial(self._fail, action, before_ms)):
                failed += batch
        return failed

    def forget_caught_up(self) -> None:
        """Delete lanes of shares that owe nothing and have nothing waiting."""
        if self._database.read(lambda c: c.execute(fairness.caught_up).first()):
            self._database.write(fairness.forget_caught_up)

    def _fail(self, action: str, before_ms: int, connection: Connection) -> int:
        now_ms = self._clock()
        failed = 0
        # A job that is not due yet has not waited for an executor.
        due = is_retrying() & (jobs.c.not_before_ms <= before_ms)
        for condition in (is_ready(), due):
            found = (
                select(jobs.c.seq)
                .where(condition, jobs.c.action == action, jobs.c.created_ms <= before_ms)
                .limit(_ORPHANS)
            )
            seqs = connection.execute(found).scalars().all()
            if not seqs:
                continue
            message = (
                f"No executor has the action {action!r}; check its spelling, or start an "
                "executor with the plugin that brings it."
            )
            statement = (
                update(jobs)
                .where(jobs.c.seq.in_(seqs), condition)
                .values(
                    **finished_blind(JobState.FAILED, now_ms),
                    **message_columns(message, now_ms),
                    updated_ms=now_ms,
                )
                .returning(
                    *jobs.c["id", "action", "priority", "state", "entry", "notifies", "audience"]
                )
            )
            rows = connection.execute(statement).mappings().all()
            events.append_many(connection, now_ms, rows)
            tally.move(connection, rows, JobState.QUEUED)
            notify_callbacks(connection, rows, now_ms)
            failed += len(rows)
        return failed


# --- the hot statements; tests read their query plans ---------------------------


def recorded(action: str, after: str | None, limit: int) -> Select[Any]:
    """Return a page of recorded entries."""
    ours: ColumnElement[bool] = or_(
        jobs.c.state == JobState.QUEUED, jobs.c.fence_czxid.is_not(None)
    )
    query = select(jobs.c.id, jobs.c.entry).where(holds_entry(), jobs.c.action == action, ours)
    if after is not None:
        query = query.where(jobs.c.id > after)
    return query.order_by(jobs.c.id).limit(limit)


_HOT: Final = (
    *("seq", "id", "action", "priority", "share", "version"),
    *("state", "entry", "not_before_ms", "execution_mode", "fence_czxid", "audience"),
)
"""Columns that the writes in this module need."""

_NAMED: Final = PreparedRead(
    select(*jobs.c[_HOT]).where(jobs.c.id.in_(bindparam("ids", expanding=True))), many="ids"
)
_RECORD: Final = PreparedWrite(
    update(jobs)
    .where(
        jobs.c.seq == bindparam("old_seq"),
        jobs.c.state == bindparam("old_state"),
        jobs.c.entry.is_(None),
    )
    .values(entry=bindparam("new_entry"))
)


def _record(row: dict[str, Any] | None, entry: str, recorded: list[dict[str, Any]]) -> bool:
    """Return whether a job has this entry; append to `recorded` what has to be written."""
    if row is None:
        return False
    # A job that waits for a retry was claimed, and its entry consumed, before this message.
    waits = row["entry"] is None and row["not_before_ms"] is None
    if waits and (row["state"] == JobState.QUEUED or _runs_off_the_record(row)):
        row["entry"] = entry
        recorded.append(row)
    return bool(row["entry"] == entry)


def _runs_off_the_record(row: dict[str, Any]) -> bool:
    """Return whether a foreign consumer claimed the job before its entry was recorded."""
    foreign = row["fence_czxid"] is None and row["execution_mode"] != ExecutionMode.PULL
    return bool(foreign and row["state"] == JobState.RUNNING)


def _clear(connection: Connection, item: EntryItem, now_ms: int) -> bool:
    here = (jobs.c.id == item.job) & (jobs.c.entry == item.entry)
    row = connection.execute(select(*jobs.c[_HOT]).where(here)).mappings().first()
    if row is None:
        return False
    cleared: dict[str, Any] = {"entry": None}
    if row["state"] == JobState.RUNNING and row["fence_czxid"] is not None:
        cleared |= {"state": JobState.QUEUED, "updated_ms": now_ms}
        cleared["interruptions"] = jobs.c.interruptions + 1
    elif row["state"] != JobState.QUEUED:
        return False
    unmoved = (jobs.c.seq == row["seq"]) & (jobs.c.state == row["state"])
    if connection.execute(update(jobs).where(here, unmoved).values(cleared)).rowcount != 1:
        return False
    if row["state"] == JobState.RUNNING:
        events.append(connection, now_ms, row, JobState.QUEUED, None)
        tally.move(connection, [{**row, "state": JobState.QUEUED}], JobState.RUNNING)
    after = {**row, "entry": None, "state": JobState.QUEUED}
    # Refunded, because it is charged again with the next feed.
    fairness.settle(connection, [after], [0.0])
    fairness.open_lanes(connection, [after])
    return True


def _promote(connection: Connection, action: str, now_ms: int) -> None:
    """Make due retries ready."""
    due = (
        select(jobs.c.seq)
        .where(is_retrying(), jobs.c.action == action, jobs.c.not_before_ms <= now_ms)
        .order_by(jobs.c.not_before_ms)
        .limit(_PROMOTED)
    )
    seqs = connection.execute(due).scalars().all()
    promoted = (
        update(jobs).where(jobs.c.seq.in_(seqs)).values(not_before_ms=None).returning(*jobs.c[_HOT])
    )
    fairness.open_lanes(connection, connection.execute(promoted).mappings().all())


def _unpushed_actions(connection: Connection) -> Sequence[str]:
    """Return the actions of unpushed jobs, by skipping through the index."""
    found: set[str] = set()
    for condition in (is_ready(), is_retrying()):
        query = select(func.min(jobs.c.action)).where(condition)
        action = connection.execute(query).scalar()
        while action is not None:
            found.add(action)
            action = connection.execute(query.where(jobs.c.action > action)).scalar()
    return sorted(found)
