"""Searching documents: filter, order, page, count and aggregations, for every source alike."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, func, select
from sqlalchemy.exc import OperationalError

from job_engine.errors import InvalidFilterError
from job_engine.model.acl import METADATA, Right
from job_engine.store.aggregate import aggregate
from job_engine.store.base import Document
from job_engine.store.documents import Kind
from job_engine.store.filter import Filter, attributes_of, compile_filter
from job_engine.store.json_paths import by_code_point, values_of
from job_engine.store.source import Source

_ATTRIBUTE: Final = re.compile(r"[A-Za-z@][A-Za-z0-9_:@-]*(?:[./][A-Za-z@][A-Za-z0-9_:@-]*)*")


_TOO_COMPLEX: Final = re.compile(
    r"too large|too many|parser stack overflow|tables in a join|too complex|out of range"
    r"|stack depth limit"
)
"""How SQLite, and PostgreSQL, say that a statement is beyond their limits."""


@dataclass(frozen=True)
class Query:
    """What is asked for. `claims` are those of the caller; None sees everything."""

    filter: Filter | None = None
    offset: int = 0
    limit: int = 10_000
    orderby: Sequence[tuple[str, bool]] = ()
    """Attribute, and whether descending."""
    aggregations: Sequence[str] = ()
    claims: Collection[str] | None = None


@dataclass(frozen=True)
class Page:
    """What was found; `count` is before paging."""

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
    condition = condition_of(source, query, now_ms)
    # Statements of clients are not worth remembering: no two are alike.
    options: dict[str, Any] = {"compiled_cache": None}
    count = connection.execute(
        select(func.count()).select_from(source.table).where(condition), execution_options=options
    ).scalar_one()
    documents: list[Document] = []
    if query.limit and query.offset < count:
        statement = (
            select(source.table)
            .where(condition)
            .order_by(*_ordered(source, query.orderby))
            .offset(query.offset)
            .limit(query.limit)
        )
        rows = connection.execute(statement, execution_options=options).mappings()
        documents = [source.assemble(row) for row in rows]
    found = aggregate(connection, source, condition, query.aggregations)
    return Page(count, documents, found)


def condition_of(source: Source, query: Query, now_ms: int) -> ColumnElement[bool]:
    """Return which rows a query is about.

    Who may not see an attribute finds nothing by it: a filter would tell its value.
    """
    condition = source.base
    if query.filter is not None:
        condition = and_(condition, compile_filter(query.filter, source, now_ms))
    if query.claims is not None:
        names = set() if query.filter is None else set(attributes_of(query.filter))
        names.update(name for name, _ in query.orderby)
        names.update(item.partition(":")[2] for item in query.aggregations)
        condition = and_(condition, source.visible(query.claims, _needed(names)))
    return condition


def _needed(names: Iterable[str]) -> Right:
    """Return the right without which one of the attributes is not seen."""
    needed = Right.VIEW_META
    for name in names:
        top = re.split(r"[./]", name)[0]
        if top == "acl":
            return Right.VIEW_ACL
        if top not in METADATA:
            needed = Right.VIEW_DATA
    return needed


def _ordered(source: Source, orderby: Sequence[tuple[str, bool]]) -> Iterable[ColumnElement[Any]]:
    for name, descending in orderby:
        if not _ATTRIBUTE.fullmatch(name):
            raise InvalidFilterError(f"cannot order by {name!r}: it is no attribute")
        for column in _sorted_by(source, re.split(r"[./]", name), descending=descending):
            way = column.desc() if descending else column.asc()
            yield way if getattr(column, "nullable", True) is False else way.nulls_last()
    # Who comes first among equals: the newest, or the oldest of what is sorted upwards.
    upwards = bool(orderby) and not orderby[0][1]
    yield from (column.asc() if upwards else column.desc() for column in source.age)


def _sorted_by(
    source: Source, path: Sequence[str], *, descending: bool
) -> Iterable[ColumnElement[Any]]:
    """Yield what an attribute is sorted by: numbers first, then texts, arrays by an extreme."""
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
