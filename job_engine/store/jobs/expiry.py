"""Failing jobs that still wait when their `expiry` passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, Select, select, update

from job_engine.model import EXPIRED, JobState
from job_engine.store.base import Clock, Database
from job_engine.store.fair_share import fairness
from job_engine.store.jobs import events, tally
from job_engine.store.jobs.changes import notify_callbacks
from job_engine.store.jobs.transitions import finished_blind, message_columns
from job_engine.store.tables import is_expiring, jobs

_BATCH: Final = 500
"""Jobs failed in one transaction, so that other writes do not wait long."""

_RETURNED: Final = (
    *("id", "action", "priority", "share", "version", "state", "entry"),
    *("notifies", "audience"),
)


class Expiry:
    """Fails expired jobs. Running jobs are bounded by their action's timeout instead.

    If an executor claims an expired job first, `decide_claim` fails it.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def fail_expired(self) -> int:
        """Fail the jobs that have expired, and return how many there were."""
        failed = 0
        while self._database.read(lambda c: c.execute(expired(self._clock(), 1)).first()):
            failed += self._database.write(self._fail)
        return failed

    def _fail(self, connection: Connection) -> int:
        now_ms = self._clock()
        seqs = connection.execute(expired(now_ms, _BATCH)).scalars().all()
        if not seqs:
            return 0
        statement = (
            update(jobs)
            .where(jobs.c.seq.in_(seqs), jobs.c.state == JobState.QUEUED)
            .values(
                **finished_blind(JobState.FAILED, now_ms),
                **message_columns(EXPIRED, now_ms),
                updated_ms=now_ms,
            )
            .returning(*jobs.c[_RETURNED])
        )
        rows = connection.execute(statement).mappings().all()
        # The event has the entry, so that the leader removes it from the queue.
        events.append_many(connection, now_ms, rows)
        tally.move(connection, rows, JobState.QUEUED)
        notify_callbacks(connection, rows, now_ms)
        waited: Sequence[Any] = [row for row in rows if row["entry"] is not None]
        fairness.settle(connection, waited, [0.0] * len(waited))
        return len(rows)


def expired(now_ms: int, limit: int) -> Select[Any]:
    """Return the `seq` of jobs that have expired, the first ones first."""
    return (
        select(jobs.c.seq)
        .where(is_expiring(), jobs.c.expiry_ms <= now_ms)
        .order_by(jobs.c.expiry_ms)
        .limit(limit)
    )
