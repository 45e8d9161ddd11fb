"""Keeping the number of jobs, by audience, action and state (decision 14 in docs/decisions).

The numbers change in the transaction that changes a job, so they are exact in every
snapshot. Inserts and changes of state are counted here, many jobs in one statement: a
trigger would add two fifths to the writes of each job that runs. Only deletions, which are
never urgent, are counted by a trigger. The audience `EVERYBODY` has the sum of all.
Updating one row for all jobs costs no concurrency: writers take turns anyway, in
PostgreSQL too. `job_engine.store.search.job_counts` reads the numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import Connection, text

from job_engine.store.base import Row
from job_engine.store.prepared import PreparedWrite
from job_engine.store.tables import EVERYBODY

_ADD: Final = PreparedWrite(
    text(
        "INSERT INTO job_counts (audience, action, state, count) "
        "VALUES (:audience, :action, :state, :count) "
        "ON CONFLICT (audience, action, state) "
        "DO UPDATE SET count = job_counts.count + excluded.count"
    )
)


def add(connection: Connection, rows: Sequence[Row]) -> None:
    """Count jobs that were inserted, by the columns of their rows."""
    _add(connection, Counter(map(_place, rows)))


def move(connection: Connection, after: Sequence[Row], was: str) -> None:
    """Count jobs that have moved from one state to that of their rows."""
    places = Counter(map(_place, after))
    changes = places.copy()
    for (audience, action, _), count in places.items():
        changes[audience, action, was] -= count
    _add(connection, changes)


def replace(connection: Connection, before: Sequence[Row], after: Sequence[Row]) -> None:
    """Count jobs of which any counted attribute may have changed."""
    changes = Counter(map(_place, after))
    changes.subtract(map(_place, before))
    _add(connection, changes)


_Place = tuple[str, str, str]


def _place(row: Row) -> _Place:
    return row["audience"], row["action"], str(row["state"])


def _add(connection: Connection, changes: Mapping[_Place, int]) -> None:
    numbers: Counter[_Place] = Counter()
    for (audience, action, state), change in changes.items():
        numbers[audience, action, state] += change
        numbers[EVERYBODY, action, state] += change
    values = [
        {"audience": audience, "action": action, "state": state, "count": change}
        for (audience, action, state), change in numbers.items()
        if change
    ]
    _ADD.later(connection, values)
