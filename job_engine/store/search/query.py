"""Answering queries over any source: filter, order, page, count and aggregations."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, and_, false, func, not_, or_, select
from sqlalchemy.exc import OperationalError

from job_engine.errors import InvalidFilterError
from job_engine.model.acl import METADATA, Right
from job_engine.store.base import Document
from job_engine.store.jobs.documents import Kind
from job_engine.store.search import job_counts
from job_engine.store.search.aggregate import aggregate
from job_engine.store.search.filter import Filter, attributes_of, compile_filter
from job_engine.store.search.filter.nodes import And, Compare, Op
from job_engine.store.search.json_paths import by_code_point, values_of
from job_engine.store.search.source import Source

_ATTRIBUTE: Final = re.compile(r"[A-Za-z@][A-Za-z0-9_:@-]*(?:[./][A-Za-z@][A-Za-z0-9_:@-]*)*")


FEW: Final = 5_000
"""Up to so many visible documents a search starts from them rather than from the filter."""
_TOO_COMPLEX: Final = re.compile(
    r"too large|too many|parser stack overflow|tables in a join|too complex|out of range"
    r"|stack depth limit"
)
"""Errors of SQLite and PostgreSQL that mean that a statement exceeds their limits."""


@dataclass(frozen=True)
class Query:
    """A query. `claims` are those of the caller; None sees everything."""

    filter: Filter | None = None
    offset: int = 0
    limit: int = 10_000
    orderby: Sequence[tuple[str, bool]] = ()
    """Attribute, and whether descending."""
    aggregations: Sequence[str] = ()
    claims: Collection[str] | None = None

    @property
    def needs(self) -> Right:
        """The right that the caller needs on a document to query by these attributes."""
        return _needed(self.names)

    @property
    def names(self) -> frozenset[str]:
        """The top-level attributes that the query uses."""
        names = set() if self.filter is None else set(attributes_of(self.filter))
        names.update(name for name, _ in self.orderby)
        names.update(item.partition(":")[2] for item in self.aggregations)
        return frozenset(re.split(r"[./]", name)[0] for name in names)


@dataclass(frozen=True)
class Page:
    """A page of documents; `count` is the number that match, before paging."""

    count: int
    documents: Sequence[Document]
    aggregations: dict[str, Any] | None = None


def run(connection: Connection, source: Source, query: Query, now_ms: int) -> Page:
    """Answer a query. Raises `InvalidFilterError` for what cannot be compared or sorted."""
    try:
        return _run(connection, source, query, now_ms)
    except (OperationalError, RecursionError) as error:
        if isinstance(error, OperationalError) and not _TOO_COMPLEX.search(str(error.orig)):
            raise
        raise InvalidFilterError(
            "Invalid CIMI filter. The query is too complex: use fewer parentheses, and "
            "shorter paths."
        ) from error


def _run(connection: Connection, source: Source, query: Query, now_ms: int) -> Page:
    count: int | None = None
    if job_counts.can_count(source, query.filter) and not _asks_for_reserved(source, query):
        count = job_counts.count(connection, query.filter, query.claims, query.needs, now_ms)
    condition = condition_of(source, query, now_ms, _lead(connection, source, query, count, now_ms))
    # Not cached, because hardly any two statements of clients are the same.
    options: dict[str, Any] = {"compiled_cache": None}
    if count is None:
        every = select(func.count()).select_from(source.table).where(condition)
        count = connection.execute(every, execution_options=options).scalar_one()
    documents: list[Document] = []
    if query.limit and query.offset < count:
        statement = page_of(source, query, condition)
        rows = connection.execute(statement, execution_options=options).mappings()
        documents = [source.assemble(row) for row in rows]
    found = aggregate(connection, source, condition, query.aggregations)
    return Page(count, documents, found)


def page_of(source: Source, query: Query, condition: ColumnElement[bool]) -> Select[Any]:
    """Return the statement that reads the page of what matches a condition."""
    return (
        select(source.table)
        .where(condition)
        .order_by(*_ordered(source, query.orderby))
        .offset(query.offset)
        .limit(query.limit)
    )


class Lead(Enum):
    """Where a search starts; a hint, because the database cannot estimate it well."""

    FILTER = "filter"
    """From documents that match the filter; then check whether the caller sees them."""
    CALLER = "caller"
    """From documents that the caller sees; then check whether they match."""
    EITHER = "either"
    """The database decides."""


def _lead(
    connection: Connection, source: Source, query: Query, count: int | None, now_ms: int
) -> Lead:
    """Decide where to start: from the caller's documents if those are few.

    `count` is the number of documents that match, if it is known already.
    """
    if query.claims is None or not source.counted:
        return Lead.EITHER
    if count is None or count <= FEW:
        count = job_counts.count(connection, None, query.claims, Right.VIEW_META, now_ms)
    return Lead.CALLER if count <= FEW else Lead.FILTER


def condition_of(
    source: Source, query: Query, now_ms: int, lead: Lead = Lead.EITHER
) -> ColumnElement[bool]:
    """Return the condition for the rows that match a query.

    Rows in which the caller may not see a queried attribute do not match: a filter would
    reveal its value.
    """
    conditions = [source.base]
    if query.filter is not None:
        matching = compile_filter(query.filter, source, now_ms)
        conditions.append(_without_index(matching) if lead is Lead.CALLER else matching)
        if lead is not Lead.CALLER:
            conditions += _index_hints(source, query.filter)
    if query.claims is not None:
        seen = source.visible(query.claims, query.needs)
        conditions.append(_without_index(seen) if lead is Lead.FILTER else seen)
        if source.reserved is not None and _asks_for_reserved(source, query):
            theirs = source.visible(query.claims, source.reserved.right)
            conditions.append(_without_index(or_(not_(source.reserved.rows), theirs)))
    return and_(*conditions)


def _asks_for_reserved(source: Source, query: Query) -> bool:
    """Return whether a query uses attributes that are reserved in some rows."""
    reserved = source.reserved
    return (
        reserved is not None
        and query.claims is not None
        and not reserved.names.isdisjoint(query.names)
    )


def _without_index(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return the condition in a form for which no index is used."""
    return func.coalesce(condition, false())


def _index_hints(source: Source, tree: Filter | None) -> Iterable[ColumnElement[bool]]:
    """Yield redundant conditions that let the database use an index."""
    items = tree.items if isinstance(tree, And) else (tree,) if tree is not None else ()
    compared = {
        item.attribute: item for item in items if isinstance(item, Compare) and item.op is Op.EQ
    }
    named = set() if tree is None else set(attributes_of(tree))
    for attribute, (other, condition) in source.spread.items():
        if attribute in compared and other not in named:
            yield condition
    for attribute, again in source.again.items():
        if attribute in compared and isinstance(value := compared[attribute].value, str):
            yield again == value


def _needed(names: Iterable[str]) -> Right:
    """Return the right that is needed to see all of these attributes."""
    needed = Right.VIEW_META
    for name in names:
        if name == "acl":
            return Right.VIEW_ACL
        if name not in METADATA:
            needed = Right.VIEW_DATA
    return needed


def _ordered(source: Source, orderby: Sequence[tuple[str, bool]]) -> Iterable[ColumnElement[Any]]:
    columns: list[tuple[ColumnElement[Any], bool]] = []
    for name, descending in orderby:
        if not _ATTRIBUTE.fullmatch(name):
            raise InvalidFilterError(f"cannot order by {name!r}: it is no attribute")
        path = re.split(r"[./]", name)
        columns += [(c, descending) for c in _sorted_by(source, path, descending=descending)]
    # Ties are broken by age, in the direction of the first attribute, as the indexes are
    # ordered. A column that is named twice would keep an index from being used.
    upwards = bool(orderby) and not orderby[0][1]
    named = [column for column, _ in columns]
    columns += [(c, not upwards) for c in source.age if not any(c is other for other in named)]
    for column, descending in columns:
        way = column.desc() if descending else column.asc()
        yield way if getattr(column, "nullable", True) is False else way.nulls_last()


def _sorted_by(
    source: Source, path: Sequence[str], *, descending: bool
) -> Iterable[ColumnElement[Any]]:
    """Yield sort keys of an attribute: numbers before texts, arrays by their extreme value."""
    column = source.column("/".join(path))
    if column is not None:
        text = source.kind("/".join(path)) is Kind.TEXT
        yield by_code_point(column) if text else column
        return
    array = source.array(path[0])
    if array is not None:
        found = values_of(array, path[1:])
        yield found.extreme(found.number, largest=descending)
        yield found.extreme(found.word, largest=descending)
