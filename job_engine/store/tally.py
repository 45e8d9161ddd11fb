"""How many jobs there are, by audience, action and state, without reading them.

The numbers change in the transaction that changes a job, and so are exact in whatever
snapshot they are read. What is moved or deleted, triggers count; what is created, `add`
does, many at once: with a trigger SQLite would keep a journal of each inserted row.
`EVERYBODY` stands for all jobs. Writers are one after the other, in PostgreSQL too: nobody
waits for a number that would not wait for the lock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, func, select, text, true

from job_engine.model.acl import Right
from job_engine.store.audiences import within
from job_engine.store.filter import Filter, attributes_of, compile_filter
from job_engine.store.source import TALLY, Source
from job_engine.store.tables import EVERYBODY, job_counts

_ADD: Final = text(
    "INSERT INTO job_counts (audience, action, state, count) "
    "VALUES (:audience, :action, :state, :count) "
    "ON CONFLICT (audience, action, state) "
    "DO UPDATE SET count = job_counts.count + excluded.count"
)


def add(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Count jobs that were inserted, by the columns of their rows."""
    numbers: Counter[tuple[str, str, str]] = Counter()
    for row in rows:
        for audience in (EVERYBODY, row["audience"]):
            numbers[audience, row["action"], row["state"]] += 1
    if numbers:
        connection.execute(
            _ADD,
            [
                {"audience": audience, "action": action, "state": str(state), "count": count}
                for (audience, action, state), count in numbers.items()
            ],
        )


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
