"""How many jobs there are, by audience, action and state, without reading them.

The numbers change in the transaction that changes a job, and so are exact in whatever
snapshot they are read: many at once, by whoever creates jobs (`add`) or changes them
(`move`). A trigger would cost each job that is run two fifths of all its writes, so only
what is deleted, which is no one's hurry, is counted by one.
`EVERYBODY` stands for all jobs. Writers are one after the other, in PostgreSQL too: nobody
waits for a number that would not wait for the lock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, func, select, text, true

from job_engine.model.acl import Right
from job_engine.store.audiences import within
from job_engine.store.filter import Filter, attributes_of, compile_filter
from job_engine.store.many import Many
from job_engine.store.source import TALLY, Source
from job_engine.store.tables import EVERYBODY, job_counts
from job_engine.store.turns import Row

_ADD: Final = Many(
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
    """Count jobs that were in one state, and are what their rows say now."""
    places = Counter(map(_place, after))
    changes = places.copy()
    for (audience, action, _), count in places.items():
        changes[audience, action, was] -= count
    _add(connection, changes)


def replace(connection: Connection, before: Sequence[Row], after: Sequence[Row]) -> None:
    """Count jobs that may have changed in any way."""
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


def can_tell(source: Source, tree: Filter | None) -> bool:
    """Whether the tally alone knows how many documents of a source match a filter."""
    return source.tallied and (
        tree is None or all(name in TALLY.fields for name in attributes_of(tree))
    )


def count(
    connection: Connection,
    tree: Filter | None,
    claims: Collection[str] | None,
    right: Right,
    now_ms: int,
) -> int:
    """Return how many jobs match a filter that it can tell of, and somebody has `right` on."""
    matching: ColumnElement[bool] = true()
    if tree is not None:
        matching = compile_filter(tree, TALLY, now_ms)
    of_whom = (
        job_counts.c.audience == EVERYBODY
        if claims is None
        else within(job_counts.c.audience, claims, right)
    )
    total = select(func.coalesce(func.sum(job_counts.c.count), 0)).where(and_(of_whom, matching))
    return int(connection.execute(total, execution_options={"compiled_cache": None}).scalar_one())
