"""Aggregations over what a query matches (specs/cimi-api.md §1.6)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, FromClause, Select, func, select

from job_engine.store.json_paths import values_of
from job_engine.store.source import Source

_ITEM: Final = re.compile(r"([a-z_-]+):([A-Za-z@][A-Za-z0-9_:@/-]*)")
TOP_TERMS: Final = 10


class _Values:
    """The values of one attribute, over the rows that match."""

    def __init__(self, source: Source, name: str, condition: ColumnElement[bool]) -> None:
        self._source = source
        self._condition = condition
        self._tables: Sequence[FromClause] = (source.table,)
        column = source.column(name)
        self.known = True
        if column is None:
            first, *further = name.split("/")
            array = source.array(first)
            if array is None:
                self.known = False
                column = source.table.c[0]
            else:
                found = values_of(array, further)
                self._tables = (source.table, *found.tables)
                column = found.value
        self.value: ColumnElement[Any] = column

    def select(self, *columns: Any) -> Select[Any]:
        """Select from the values that are there."""
        return (
            select(*columns)
            .select_from(*self._tables)
            .where(self._condition, self.value.is_not(None))
        )


def aggregate(
    connection: Connection, source: Source, condition: ColumnElement[bool], items: Sequence[str]
) -> dict[str, Any] | None:
    """Return what was asked for, by its own name; None where nothing was that is known."""
    results: dict[str, Any] = {}
    for item in items:
        match = _ITEM.fullmatch(item)
        if match is None or match[1] not in _ALGORITHMS:
            continue
        values = _Values(source, match[2], condition)
        if values.known:
            results[item] = _ALGORITHMS[match[1]](connection, values)
    return results or None


def _single(function: Any, kind: Callable[[Any], Any]) -> Callable[[Connection, _Values], Any]:
    def run(connection: Connection, values: _Values) -> dict[str, Any]:
        value = connection.execute(values.select(function(values.value))).scalar()
        return {"value": None if value is None else kind(value)}

    return run


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, int | float) else value


def _cardinality(connection: Connection, values: _Values) -> dict[str, Any]:
    query = values.select(func.count(values.value.distinct()))
    return {"value": connection.execute(query).scalar_one()}


def _stats(connection: Connection, values: _Values) -> dict[str, Any]:
    value = values.value
    row = connection.execute(
        values.select(
            func.count(value), func.min(value), func.max(value), func.avg(value), func.sum(value)
        )
    ).one()
    names = ("min", "max", "avg", "sum")
    rest = {name: _number(found) for name, found in zip(names, row[1:], strict=True)}
    return {"count": row[0], **rest}


def _terms(connection: Connection, values: _Values) -> dict[str, Any]:
    total = connection.execute(values.select(func.count())).scalar_one()
    count = func.count()
    query = (
        values.select(values.value, count)
        .group_by(values.value)
        .order_by(count.desc(), values.value)
        .limit(TOP_TERMS)
    )
    buckets = [{"key": row[0], "doc_count": row[1]} for row in connection.execute(query)]
    return {
        "doc_count_error_upper_bound": 0,
        "sum_other_doc_count": total - sum(int(b["doc_count"]) for b in buckets),
        "buckets": buckets,
    }


_ALGORITHMS: Final[dict[str, Callable[[Connection, _Values], Any]]] = {
    "min": _single(func.min, _number),
    "max": _single(func.max, _number),
    "sum": _single(func.sum, _number),
    "avg": _single(func.avg, _number),
    "value_count": _single(func.count, int),
    "cardinality": _cardinality,
    "stats": _stats,
    "terms": _terms,
}
