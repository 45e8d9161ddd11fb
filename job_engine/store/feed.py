"""Jobs as distributors see them: what to push, what was pushed, and what nobody can run.

The feed costs what the window costs, not what the backlog does (bounded-window): it
reads `jobs_ready` in its own order and stops. A retry that is not due is in another
index, `jobs_retrying`, and moves over when its time has come.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, func, or_, select, update

from job_engine.model import JobState
from job_engine.model.protocol import EntryItem, FeedItem, FeedReply, RecordedEntries
from job_engine.store import events
from job_engine.store.base import Clock, Database
from job_engine.store.tables import (
    holds_entry,
    is_ready,
    is_retrying,
    is_waiting,
    jobs,
)
from job_engine.store.transitions import finished_blind, message_columns

PAGE: Final = 1000
"""Recorded entries that one page holds."""
_PROMOTED: Final = 1000
"""Retries found due at once; the rest follows with the next feed."""
_ORPHANS: Final = 500
"""Jobs that one transaction fails."""


class Feed:
    """The distributor's part of the store."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def feed(self, action: str, window: int) -> FeedReply:
        """Return what to push now: priority first, then age.

        A job is in it while fewer than `window` waiting entries of its action, those
        before it in the reply included, are as urgent or more.
        """
        now_ms = self._clock()
        due = self._database.read(lambda c: c.execute(next_due(action)).scalar())
        if due is not None and due <= now_ms:
            self._database.write(lambda c: _promote(c, action, now_ms))

        def unit(connection: Connection) -> FeedReply:
            waiting = connection.execute(most_urgent_waiting(action, window)).scalars().all()
            candidates = connection.execute(most_urgent_ready(action, window)).all()
            chosen: list[FeedItem] = []
            ahead = 0  # waiting entries that are as urgent as the candidate, or more
            for candidate in candidates:
                while ahead < len(waiting) and waiting[ahead] <= candidate.priority:
                    ahead += 1
                if ahead + len(chosen) >= window:
                    break
                chosen.append(FeedItem(job=candidate.id, priority=candidate.priority))
            later = connection.execute(next_due(action)).scalar()
            return FeedReply(jobs=chosen, next_due_ms=later)

        return self._database.read(unit)

    def pushed(self, entries: Sequence[EntryItem]) -> Sequence[bool]:
        """Record entries of jobs that are QUEUED and have none. True: it is recorded.

        Also where it was before: after a lost reply it is said again, and a leader takes
        an entry that is not recorded out of the queue.
        """

        def record(item: EntryItem) -> Any:
            free = or_(jobs.c.entry.is_(None), jobs.c.entry == item.entry)
            unpushed = (jobs.c.state == JobState.QUEUED) & free
            return update(jobs).where(jobs.c.id == item.job, unpushed).values(entry=item.entry)

        return self._each(entries, record)

    def cleared(self, entries: Sequence[EntryItem]) -> Sequence[bool]:
        """Forget entries that are gone, where jobs still have them. True: written.

        A job that runs under a claim of that entry has lost it with the entry: it goes
        back to QUEUED, counted as an interruption, and keeps its fence, so that what
        the old run still says is refused. One that a foreign consumer runs stays.
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
        """Fail unpushed jobs of actions that nobody has, and return how many there were."""
        before_ms = self._clock() - round(grace_s * 1000)
        failed = 0
        for action in self._database.read(_unpushed_actions):
            if action in live_actions:
                continue
            while batch := self._database.write(partial(self._fail, action, before_ms)):
                failed += batch
        return failed

    def _fail(self, action: str, before_ms: int, connection: Connection) -> int:
        now_ms = self._clock()
        failed = 0
        for condition in (is_ready(), is_retrying()):
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
                .returning(jobs.c.id, jobs.c.priority)
            )
            rows = connection.execute(statement).all()
            ended = [
                {
                    "job": row.id,
                    "action": action,
                    "priority": row.priority,
                    "state": JobState.FAILED,
                    "entry": None,
                }
                for row in rows
            ]
            events.append_many(connection, now_ms, ended)
            failed += len(rows)
        return failed

    def _each(self, entries: Sequence[EntryItem], statement: Any) -> Sequence[bool]:
        def unit(connection: Connection) -> Sequence[bool]:
            return [connection.execute(statement(item)).rowcount == 1 for item in entries]

        return self._database.write(unit) if entries else []


# --- the hot statements; tests read their query plans ---------------------------


def most_urgent_ready(action: str, limit: int) -> Select[Any]:
    """Return the first `limit` jobs in the feed's order, which is its index's."""
    return (
        select(jobs.c.id, jobs.c.priority)
        .where(is_ready(), jobs.c.action == action)
        .order_by(jobs.c.priority, jobs.c.created_ms, jobs.c.seq)
        .limit(limit)
    )


def most_urgent_waiting(action: str, limit: int) -> Select[Any]:
    """Return the priorities of the first `limit` waiting entries, in order.

    More of them are not needed: whatever is less urgent than all of these finds the
    window full.
    """
    return (
        select(jobs.c.priority)
        .where(is_waiting(), jobs.c.action == action)
        .order_by(jobs.c.priority)
        .limit(limit)
    )


def next_due(action: str) -> Select[Any]:
    """Return when the next retry of an action falls due."""
    return select(func.min(jobs.c.not_before_ms)).where(is_retrying(), jobs.c.action == action)


def recorded(action: str, after: str | None, limit: int) -> Select[Any]:
    """Return a page of recorded entries."""
    ours: ColumnElement[bool] = or_(
        jobs.c.state == JobState.QUEUED, jobs.c.fence_czxid.is_not(None)
    )
    query = select(jobs.c.id, jobs.c.entry).where(holds_entry(), jobs.c.action == action, ours)
    if after is not None:
        query = query.where(jobs.c.id > after)
    return query.order_by(jobs.c.id).limit(limit)


def _clear(connection: Connection, item: EntryItem, now_ms: int) -> bool:
    here = (jobs.c.id == item.job) & (jobs.c.entry == item.entry)
    waiting = update(jobs).where(here, jobs.c.state == JobState.QUEUED).values(entry=None)
    if connection.execute(waiting).rowcount == 1:
        return True
    interrupted = (
        update(jobs)
        .where(here, jobs.c.state == JobState.RUNNING, jobs.c.fence_czxid.is_not(None))
        .values(
            state=JobState.QUEUED,
            entry=None,
            interruptions=jobs.c.interruptions + 1,
            updated_ms=now_ms,
        )
        .returning(*jobs.c["seq", "id", "action", "priority"])
    )
    row = connection.execute(interrupted).mappings().first()
    if row is None:
        return False
    events.append(connection, now_ms, row, JobState.QUEUED, None)
    return True


def _promote(connection: Connection, action: str, now_ms: int) -> None:
    """Make retries ready whose time has come."""
    due = (
        select(jobs.c.seq)
        .where(is_retrying(), jobs.c.action == action, jobs.c.not_before_ms <= now_ms)
        .order_by(jobs.c.not_before_ms)
        .limit(_PROMOTED)
    )
    seqs = connection.execute(due).scalars().all()
    connection.execute(update(jobs).where(jobs.c.seq.in_(seqs)).values(not_before_ms=None))


def _unpushed_actions(connection: Connection) -> Sequence[str]:
    """Return the actions of unpushed jobs, by hopping through the index from one to the next."""
    found: set[str] = set()
    for condition in (is_ready(), is_retrying()):
        query = select(func.min(jobs.c.action)).where(condition)
        action = connection.execute(query).scalar()
        while action is not None:
            found.add(action)
            action = connection.execute(query.where(jobs.c.action > action)).scalar()
    return sorted(found)
