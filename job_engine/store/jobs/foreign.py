"""Jobs that foreign consumers run: those that edit a job to RUNNING, without a fence.

Such a run has no fence. A consumer that dies after it consumed its entry, or before the
leader had recorded the entry, leaves a RUNNING job without an entry. The only sign is that
nobody changes the job any more (decision 10 in docs/decisions).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, Select, select, update

from job_engine.model import JobState
from job_engine.model.protocol.feed import ForeignRun
from job_engine.store.base import Clock, Database
from job_engine.store.fair_share import fairness
from job_engine.store.jobs import events, tally
from job_engine.store.tables import inline, jobs

MONITORED: Final = "monitor"
"""Tag of bulk jobs that a monitor keeps up to date (docs/cimi.md §6.4)."""
LIMIT: Final = 100
"""Runs that one reconcile considers, at most."""

_ROW: Final = (
    *("seq", "id", "action", "priority", "share", "version", "state"),
    *("entry", "not_before_ms", "execution_mode", "updated_ms", "fence_czxid", "audience"),
)


class ForeignRuns:
    """Finds silent runs, and queues their jobs again."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def silent(self, action: str, silent_s: float) -> Sequence[ForeignRun]:
        """Return the runs of `action` without a change for `silent_s` seconds, the oldest first.

        Jobs in pull mode are excluded, because agents may be silent for any time, and so are
        bulk jobs under a monitor, which run without a consumer.
        """
        query = silent(action, self._clock() - round(silent_s * 1000))
        rows = self._database.read(lambda c: c.execute(query).all())
        runs = [
            ForeignRun(job=row.id, entry=row.entry, updated_ms=row.updated_ms)
            for row in rows
            if MONITORED not in (row.tags or ())
        ]
        return runs[:LIMIT]

    def requeue(self, runs: Sequence[ForeignRun]) -> Sequence[bool]:
        """Queue jobs again that have not changed since; this counts as an interruption.

        True: written. A consumer that still runs such a job may report its end nevertheless.
        """

        def unit(connection: Connection) -> Sequence[bool]:
            now_ms = self._clock()
            return [_requeue(connection, run, now_ms) for run in runs]

        return self._database.write(unit) if runs else []


def silent(action: str, before_ms: int) -> Select[Any]:
    """Return the foreign runs of an action that were touched last at that time or before."""
    tags = jobs.c.document["tags"].label("tags")
    return (
        select(*jobs.c["id", "entry", "updated_ms"], tags)
        .where(
            jobs.c.state == inline("RUNNING"),
            jobs.c.fence_czxid.is_(None),
            jobs.c.execution_mode != inline("pull"),
            jobs.c.action == action,
            jobs.c.updated_ms <= before_ms,
        )
        .order_by(jobs.c.updated_ms, jobs.c.seq)
    )


def _requeue(connection: Connection, run: ForeignRun, now_ms: int) -> bool:
    untouched = (
        (jobs.c.id == run.job)
        & (jobs.c.state == JobState.RUNNING)
        & jobs.c.fence_czxid.is_(None)
        & jobs.c.entry.is_not_distinct_from(run.entry)
        & (jobs.c.updated_ms == run.updated_ms)
    )
    row = connection.execute(select(*jobs.c[_ROW]).where(untouched)).mappings().first()
    again = {"state": JobState.QUEUED, "entry": None, "updated_ms": now_ms}
    counted = {**again, "interruptions": jobs.c.interruptions + 1}
    if (
        row is None
        or connection.execute(update(jobs).where(untouched).values(counted)).rowcount < 1
    ):
        return False
    events.append(connection, now_ms, row, JobState.QUEUED, None)
    after = {**row, **again}
    tally.replace(connection, [row], [after])
    if row["entry"] is not None:
        fairness.settle(connection, [after], [0.0])  # it is charged again when it is fed again
    fairness.open_lanes(connection, [after])
    return True
