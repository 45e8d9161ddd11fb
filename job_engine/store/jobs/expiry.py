"""Jobs that are worth nothing any more: those that still wait when their `expiry` passes."""

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
"""Jobs that one transaction fails, so that it holds nobody else up for long."""

_RETURNED: Final = (
    *("id", "action", "priority", "share", "version", "state", "entry"),
    *("notifies", "audience"),
)


class Expiry:
    """Fails what has expired. A job that runs is bounded by its action's timeout instead.

    An executor that claims an expired job before it is found here is told so: `decide_claim`.
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
        # With its entry, so that the leader takes it out of the queue.
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
