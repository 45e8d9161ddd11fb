"""Answering queries: a page of documents, reduced to what the caller may see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext

from sqlalchemy import Connection

from job_engine.api.access import project, rights_found, seen_by, select
from job_engine.api.call import Call
from job_engine.api.errors import QueryError
from job_engine.api.identity import EXECUTOR, Identity
from job_engine.api.operations import Operations, common_operations
from job_engine.model.acl import Right
from job_engine.store.base import Document
from job_engine.store.search.query import Page, Query, run
from job_engine.store.search.source import Source

MAX_WINDOW = 10_000
"""Documents that can be paged to (docs/cimi.md §1.4)."""


def run_query(
    call: Call,
    source: Source,
    operations: Callable[[Document, Right, Identity], Operations] = common_operations,
    more: Callable[[Sequence[Document]], Mapping[str, Document]] | None = None,
    read: Callable[[Callable[[Connection], Page]], Page] | None = None,
) -> Page:
    """Run the query that the parameters ask for.

    `more` returns computed attributes of documents by their ids. `read` runs a unit on another
    database than the store. Raises `QueryError` for a page beyond `MAX_WINDOW`, and
    `TooManySearchesError` while too many searches run.
    """
    params = call.params
    everything = call.who.is_admin
    now_ms = call.services.store.clock()
    seen = seen_by(call.who, source)
    offset, limit = window(params.first, params.last)
    query = Query(
        filter=params.filter,
        offset=offset,
        limit=limit,
        orderby=params.orderby,
        aggregations=params.aggregation,
        claims=None if everything else call.who.claims,
    )
    # The engine's own services are not subject to the limit on searches.
    served_first = everything or EXECUTOR in call.who.claims
    with nullcontext() if served_first else call.services.searches.admit(call.who.creator):
        page = (read or call.services.store.database.read)(
            lambda connection: run(connection, seen, query, now_ms)
        )
    added = {} if more is None else more(page.documents)
    documents = [
        _entry(call, document | added.get(document["id"], {}), now_ms, operations)
        for document in page.documents
    ]
    return Page(page.count, documents, page.aggregations)


def window(first: int, last: int | None) -> tuple[int, int]:
    """Return offset and limit of the 1-based, inclusive bounds."""
    offset = first - 1
    if last is None:
        limit = max(0, MAX_WINDOW - offset)
    else:
        limit = max(0, last - offset) if last > 0 else 0
    if offset + limit > MAX_WINDOW:
        raise QueryError(
            "unexpected exception querying: java.lang.IllegalArgumentException: First and last "
            "must be less than or equal to 10'000. Use filter to limit the number of returned "
            "resources."
        )
    return offset, limit


def _entry(
    call: Call,
    document: Document,
    now_ms: int,
    operations: Callable[[Document, Right, Identity], Operations],
) -> Document:
    held = rights_found(call.who, document)
    seen = project(document, held, now_ms)
    wanted = call.params.select
    if (wanted is None or "operations" in wanted) and "acl" in seen:
        offered = operations(document, held, call.who)
        if offered:
            seen = {**seen, "operations": offered}
    return select(seen, wanted)
