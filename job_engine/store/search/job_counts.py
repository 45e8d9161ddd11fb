"""Counting the jobs that match a search by the numbers of `store/jobs/tally.py`.

Otherwise the exact count of a page would have to read every matching job.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement, Connection, and_, func, select, true

from job_engine.model.acl import Right
from job_engine.store.access.audiences import within
from job_engine.store.search.filter import Filter, attributes_of, compile_filter
from job_engine.store.search.source import JOB_COUNTS, Source
from job_engine.store.tables import EVERYBODY, job_counts


def can_count(source: Source, tree: Filter | None) -> bool:
    """Return whether these numbers alone suffice to count the documents that match a filter."""
    return source.counted and (
        tree is None or all(name in JOB_COUNTS.fields for name in attributes_of(tree))
    )


def count(
    connection: Connection,
    tree: Filter | None,
    claims: Collection[str] | None,
    right: Right,
    now_ms: int,
) -> int:
    """Return how many jobs match a filter and grant `right` to one of the claims.

    `can_count` has to be true of the filter. With `claims` None every job is counted.
    """
    matching: ColumnElement[bool] = true()
    if tree is not None:
        matching = compile_filter(tree, JOB_COUNTS, now_ms)
    audience = (
        job_counts.c.audience == EVERYBODY
        if claims is None
        else within(job_counts.c.audience, claims, right)
    )
    total = select(func.coalesce(func.sum(job_counts.c.count), 0)).where(and_(audience, matching))
    return int(connection.execute(total, execution_options={"compiled_cache": None}).scalar_one())
