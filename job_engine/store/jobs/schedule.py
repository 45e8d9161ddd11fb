"""Periodic jobs: one for each tick of an action, and one unfinished at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection, insert, select, update

from job_engine.model.protocol.actions import ScheduleReply
from job_engine.store.base import Clock, Database, Document
from job_engine.store.jobs.inserts import insert_jobs
from job_engine.store.tables import is_unfinished, jobs, schedules

CLOCKS_APART_MS: Final = 300_000
"""How far a leader's clock may be ahead of this one; beyond that, one of them is wrong."""


class Schedules:
    """Creates periodic jobs, and remembers the newest tick of each action."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def schedule(self, action: str, tick_ms: int, make: Callable[[], Document]) -> ScheduleReply:
        """Create the job of a tick with `make`, unless none is needed.

        None is needed if this tick or a later one had its job, if an earlier scheduled job
        of the action is unfinished, or if the tick lies in the future. A later tick that
        still lies in the future does not count: it had its job while a clock was wrong, and
        nothing would be created until then.
        """

        def unit(connection: Connection) -> ScheduleReply:
            latest_ms = self._clock() + CLOCKS_APART_MS
            last = connection.execute(
                select(schedules.c.last_tick_ms).where(schedules.c.action == action)
            ).scalar()
            if tick_ms > latest_ms or (last is not None and tick_ms <= last <= latest_ms):
                return ScheduleReply(last_tick_ms=last)
            has_its_job = jobs.c.scheduled_tick_ms == tick_ms
            unfinished = jobs.c.scheduled_tick_ms.is_not(None) & is_unfinished()
            for condition in (has_its_job, unfinished):
                found = select(jobs.c.id).where(jobs.c.action == action, condition)
                if connection.execute(found.limit(1)).first() is not None:
                    return ScheduleReply(last_tick_ms=last)
            job_id = _create(connection, make(), tick_ms, self._clock())
            _remember(connection, action, tick_ms, first=last is None)
            return ScheduleReply(job=job_id, last_tick_ms=tick_ms)

        return self._database.write(unit)


def _create(connection: Connection, document: Document, tick_ms: int, now_ms: int) -> str:
    job_id: str = insert_jobs(connection, [document], now_ms)[0]["id"]
    # Two unique indexes back this up: one job a tick, and one unfinished job an action.
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(scheduled_tick_ms=tick_ms))
    return job_id


def _remember(connection: Connection, action: str, tick_ms: int, *, first: bool) -> None:
    if first:
        connection.execute(insert(schedules).values(action=action, last_tick_ms=tick_ms))
    else:
        connection.execute(
            update(schedules).where(schedules.c.action == action).values(last_tick_ms=tick_ms)
        )
