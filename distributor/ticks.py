"""Ticks: the times at which scheduled jobs are due, computed from the clock alone.

Every leader computes the same tick, and the store accepts each (action, tick) once, so a
change of leader or a restart does not create a job again.
"""

from __future__ import annotations

from datetime import UTC, datetime

from croniter import croniter

from job_engine.model.protocol.actions import ActionDescription


def newest_tick_ms(action: ActionDescription, now_ms: int) -> int | None:
    """Return the last time at or before `now_ms` at which the action was due.

    Intervals count from the epoch; cron lines are in UTC. None: it has no schedule.
    """
    if action.interval_s is not None:
        interval_ms = int(action.interval_s * 1000)
        return now_ms - now_ms % interval_ms
    if action.cron is not None:
        # get_prev looks strictly before its start.
        start = datetime.fromtimestamp((now_ms + 1) / 1000, UTC)
        return int(croniter(action.cron, start).get_prev(float) * 1000)
    return None
