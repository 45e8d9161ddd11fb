"""How much there is to do, for whoever watches: from what the store keeps anyway.

The numbers of jobs are those of `tally.py`, what is pushed is bounded by the window, and
the oldest job is the first in its index: a look costs the same with a million jobs.
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
"""Stands for all actions that no executor has told of: anybody may create jobs of any name."""
_UNKNOWN_READ: Final = 1000
"""Counts of such actions that are added up, at most."""
_ANY: Final = {"newest_version": ANY_VERSION, "most": 10_000}
"""Far more entries than a window has."""


@dataclass(frozen=True)
class Backlog:
    """What there is to do at one moment."""

    jobs: Mapping[tuple[str, str], int]
    """How many jobs there are, by action and state."""
    pushed: Mapping[str, int]
    """How many of those that wait are in the queue, by action that executors told of."""
    oldest_queued_s: float
    """Age in seconds of the job that has waited longest; 0 where none waits."""


class Backlogs:
    """Looks at what there is to do."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def look(self) -> Backlog:
        """Return what there is to do now."""
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

# As the feed reads them: asked just to count, SQLite would read every job that waits.
pushed_jobs: Final = select(func.count()).select_from(most_urgent_waiting.subquery())
oldest_queued: Final = select(func.min(jobs.c.created_ms)).where(jobs.c.state == JobState.QUEUED)
