"""The backlog, for metrics: numbers of jobs, pushed jobs, and the age of the oldest one.

The cost does not depend on the number of jobs: numbers are those of `tally.py`, pushed jobs are
bounded by the window, and the oldest job is the first in an index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, func, select

from job_engine.model import JobState
from job_engine.store.base import Clock, Database
from job_engine.store.fair_share.refill import ANY_VERSION, most_urgent_waiting
from job_engine.store.tables import EVERYBODY, actions, job_counts, jobs

UNKNOWN: Final = ""
"""Stands for all actions that no executor has published: jobs may name any action."""
_UNKNOWN_READ: Final = 1000
"""Most rows of counts that are added up for such actions."""
_ANY: Final = {"newest_version": ANY_VERSION, "most": 10_000}
"""Far more entries than a window has."""


@dataclass(frozen=True)
class Backlog:
    """The backlog at one moment."""

    jobs: Mapping[tuple[str, str], int]
    """Number of jobs by action and state."""
    pushed: Mapping[str, int]
    """Number of waiting jobs that are in the queue, by published action."""
    oldest_queued_s: float
    """Age of the oldest QUEUED job, in seconds; 0: there is none."""


class Backlogs:
    """Reads the backlog."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def look(self) -> Backlog:
        """Return the backlog now."""
        return self._database.read(self._look)

    def _look(self, connection: Connection) -> Backlog:
        known = connection.execute(select(actions.c.name)).scalars().all()
        pushed = {name: _pushed_of(connection, name) for name in known}
        oldest_ms = connection.execute(oldest_queued).scalar()
        age_ms = 0 if oldest_ms is None else max(0, self._clock() - oldest_ms)
        return Backlog(_jobs(connection, known), pushed, age_ms / 1000)


def _pushed_of(connection: Connection, action: str) -> int:
    return int(connection.execute(pushed_jobs, {**_ANY, "action": action}).scalar_one())


def _jobs(connection: Connection, known: Sequence[str]) -> Mapping[tuple[str, str], int]:
    numbers = {(action, str(state)): 0 for action in known for state in JobState}
    c = job_counts.c
    of_all = select(c.action, c.state, c.count).where(c.audience == EVERYBODY)
    for action, state, count in connection.execute(of_all.where(c.action.in_(known))):
        numbers[action, state] = count
    others = of_all.where(c.action.not_in(known), c.count != 0).limit(_UNKNOWN_READ)
    for _, state, count in connection.execute(others):
        numbers[UNKNOWN, state] = numbers.get((UNKNOWN, state), 0) + count
    return numbers


# --- the statements; tests read their query plans --------------------------------

# The same statement as the feed's: with a plain COUNT, SQLite would read every waiting job.
pushed_jobs: Final = select(func.count()).select_from(most_urgent_waiting.subquery())
oldest_queued: Final = select(func.min(jobs.c.created_ms)).where(jobs.c.state == JobState.QUEUED)
