"""Aggregations over the documents that a query matches (docs/cimi.md §1.6).

An attribute's values are words (texts, `true`, `false`) or numbers. A date is a number of epoch
milliseconds; results also have it as a timestamp. Numeric aggregations ignore words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    FromClause,
    Select,
    Text,
    cast,
    func,
    select,
)
from sqlalchemy.sql.expression import null

from job_engine.model.timestamps import format_ms
from job_engine.store.jobs.documents import Kind
from job_engine.store.search.json_paths import values_of
from job_engine.store.search.source import Source

_ITEM: Final = re.compile(r"([a-z_-]+):([A-Za-z@][A-Za-z0-9_:@./-]*)")
TOP_TERMS: Final = 10
PERCENTS: Final = (1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 99.0)
_LARGE: Final = 1e120
"""Larger numbers are scaled, because the sum of their squares could overflow."""
_SIGMAS: Final = 2.0
"""Distance of the bounds in `extended_stats` from the mean, in standard deviations."""


@dataclass(frozen=True)
class _Values:
    """The values of one attribute in the matching rows."""

    connection: Connection
    source: Source
    condition: ColumnElement[bool]
    tables: Sequence[FromClause]
    word: ColumnElement[Any]
    number: ColumnElement[Any]
    absent: ColumnElement[bool]
    """The condition that a row has no value."""
    bounded: bool
    """Whether all numbers are below `_LARGE`, as those in columns are."""

    def select(self, *columns: Any, which: ColumnElement[bool]) -> Select[Any]:
        """Return a select from the values that satisfy `which`."""
        return select(*columns).select_from(*self.tables).where(self.condition, which)

    def one(self, *columns: Any, which: ColumnElement[bool]) -> Sequence[Any]:
        """Compute columns over the values that satisfy `which`; return the single row."""
        return self.connection.execute(self.select(*columns, which=which)).one()

    @property
    def is_number(self) -> ColumnElement[bool]:
        return self.number.is_not(None)

    @property
    def is_any(self) -> ColumnElement[bool]:
        return self.number.is_not(None) | self.word.is_not(None)


def aggregate(
    connection: Connection, source: Source, condition: ColumnElement[bool], items: Sequence[str]
) -> dict[str, Any] | None:
    """Return the results of aggregations `<algorithm>:<path>`, by name; None: there are none.

    Paths have slashes or dots. Unknown algorithms and attributes are ignored.
    """
    results: dict[str, Any] = {}
    for item in items:
        match = _ITEM.fullmatch(item)
        if match is None or match[1] not in _ALGORITHMS:
            continue
        attribute = match[2].replace(".", "/")
        values = _values(connection, source, condition, attribute)
        if values is not None:
            name = _RENAMED.get(match[1], match[1])
            found = _ALGORITHMS[match[1]](values)
            is_date = source.kind(attribute) is Kind.DATE and match[1] not in _COUNTS
            results[f"{name}:{match[2]}"] = _with_timestamps(found) if is_date else found
    return results or None


def _with_timestamps(found: dict[str, Any]) -> dict[str, Any]:
    """Return the result for a date, with each point in time as a timestamp too."""
    times = {
        f"{name}_as_string": format_ms(int(found[name]))
        for name in ("value", "min", "max", "avg")
        if found.get(name) is not None
    }
    buckets = {
        "buckets": [
            {"key": b["key"], "key_as_string": format_ms(b["key"]), **b}
            for b in found.get("buckets", ())
        ]
    }
    return {**found, **times, **(buckets if "buckets" in found else {})}


def _values(
    connection: Connection, source: Source, condition: ColumnElement[bool], name: str
) -> _Values | None:
    column = source.column(name)
    if column is not None:
        is_text = source.kind(name) is Kind.TEXT
        # With a type, because PostgreSQL cannot sort by a bare NULL.
        word, number = (column, cast(null(), Float)) if is_text else (cast(null(), Text), column)
        tables = (source.table,)
        return _Values(
            connection, source, condition, tables, word, number, column.is_(None), bounded=True
        )
    first, *further = name.split("/")
    array = source.array(first)
    if array is None:
        return None
    found = values_of(array, further)
    absent = ~found.any(found.present)
    every = (source.table, *found.tables)
    return _Values(
        connection, source, condition, every, found.word, found.number, absent, bounded=False
    )


# --- the algorithms -------------------------------------------------------------


def _extreme(function: Callable[[Any], Any]) -> Callable[[_Values], Any]:
    def run(values: _Values) -> dict[str, Any]:
        (value,) = values.one(function(values.number), which=values.is_number)
        return {"value": None if value is None else float(value)}

    return run


def _sum(values: _Values) -> dict[str, Any]:
    return {"value": _stats(values)["sum"]}


def _avg(values: _Values) -> dict[str, Any]:
    return {"value": _stats(values)["avg"]}


def _value_count(values: _Values) -> dict[str, Any]:
    (count,) = values.one(func.count(), which=values.is_any)
    return {"value": count}


def _cardinality(values: _Values) -> dict[str, Any]:
    words, numbers = (
        values.one(func.count(kind.distinct()), which=values.is_any)[0]
        for kind in (values.word, values.number)
    )
    return {"value": words + numbers}


def _missing(values: _Values) -> dict[str, Any]:
    query = (
        select(func.count()).select_from(values.source.table).where(values.condition, values.absent)
    )
    return {"doc_count": values.connection.execute(query).scalar_one()}


def _stats(values: _Values) -> dict[str, Any]:
    columns = [kind(values.number) for kind in (func.count, func.min, func.max)]
    if values.bounded:
        count, low, high, total = values.one(
            *columns, func.sum(_divided(values, 1.0)), which=values.is_number
        )
        scale = 1.0
    else:
        count, low, high = values.one(*columns, which=values.is_number)
        scale = _scale(low, high) if count else 1.0
        (total,) = values.one(func.sum(_divided(values, scale)), which=values.is_number)
    if not count:
        return {"count": 0, "min": None, "max": None, "avg": None, "sum": 0.0}
    return {
        "count": count,
        "min": float(low),
        "max": float(high),
        "avg": float(total) / count * scale,
        "sum": _finite(float(total) * scale),
    }


def _extended_stats(values: _Values) -> dict[str, Any]:
    stats = _stats(values)
    count, mean = stats["count"], stats["avg"]
    if not count:
        return {**stats, "sum_of_squares": None, "variance": None, "std_deviation": None}
    scale = _scale(stats["min"], stats["max"])
    number = _divided(values, scale)
    # Around the mean: floats have no digits left for the differences of squared dates.
    spread = (number - mean / scale) * (number - mean / scale)
    squares, total = values.one(func.sum(number * number), func.sum(spread), which=values.is_number)
    population = float(total) / count
    sampling = float(total) / (count - 1) if count > 1 else None
    deviation = math.sqrt(population) * scale
    return {
        **stats,
        "sum_of_squares": _finite(float(squares) * scale * scale),
        "variance": _finite(population * scale * scale),
        "variance_population": _finite(population * scale * scale),
        "variance_sampling": None if sampling is None else _finite(sampling * scale * scale),
        "std_deviation": deviation,
        "std_deviation_population": deviation,
        "std_deviation_sampling": None if sampling is None else math.sqrt(sampling) * scale,
        "std_deviation_bounds": {
            "upper": _finite(mean + _SIGMAS * deviation),
            "lower": _finite(mean - _SIGMAS * deviation),
        },
    }


def _divided(values: _Values, scale: float) -> ColumnElement[Any]:
    """Return the numbers as floats divided by `scale`; a sum of integers could overflow."""
    number = cast(values.number, Float)
    return number if scale == 1.0 else number / scale


def _scale(low: Any, high: Any) -> float:
    """Return the power of two to divide numbers by, so that sums of squares do not overflow."""
    largest = max(abs(float(low)), abs(float(high)))
    return 1.0 if largest < _LARGE else 2.0 ** (math.frexp(largest)[1] - 1)


def _finite(number: float) -> float | None:
    """Return a number; None for one that is not finite, which JSON cannot represent."""
    return number if math.isfinite(number) else None


def _percentiles(values: _Values) -> dict[str, Any]:
    """Return exact percentiles, interpolated between neighbouring values."""
    (count,) = values.one(func.count(), which=values.is_number)
    ranks = {percent: (count - 1) * percent / 100 for percent in PERCENTS} if count else {}
    wanted = {whole for rank in ranks.values() for whole in (math.floor(rank), math.ceil(rank))}
    number = values.number.label("number")
    place = (func.row_number().over(order_by=values.number) - 1).label("place")
    placed = values.select(number, place, which=values.is_number).subquery()
    query = select(placed.c.place, placed.c.number).where(placed.c.place.in_(wanted))
    at = {row[0]: float(row[1]) for row in values.connection.execute(query)} if wanted else {}
    return {
        "values": {
            str(percent): _between(at, ranks[percent]) if ranks else None for percent in PERCENTS
        }
    }


def _between(at: dict[int, float], rank: float) -> float:
    low, high = at[math.floor(rank)], at[math.ceil(rank)]
    part = rank - math.floor(rank)
    return low if low == high else low * (1 - part) + high * part


def _terms(values: _Values) -> dict[str, Any]:
    total = _value_count(values)["value"]
    count = func.count()
    query = (
        values.select(values.word, values.number, count, which=values.is_any)
        .group_by(values.word, values.number)
        .order_by(count.desc(), values.word, values.number)
        .limit(TOP_TERMS)
    )
    buckets = [
        {"key": _plain(number) if word is None else word, "doc_count": found}
        for word, number, found in values.connection.execute(query)
    ]
    return {
        "doc_count_error_upper_bound": 0,
        "sum_other_doc_count": total - sum(int(b["doc_count"]) for b in buckets),
        "buckets": buckets,
    }


def _plain(number: Any) -> int | float:
    """Return a driver's number as an int if it is whole, else as a float."""
    return int(number) if number == int(number) else float(number)


_COUNTS: Final = ("value_count", "cardinality", "sum")
"""Algorithms whose result is not a point in time, even for dates."""
_RENAMED: Final = {"extendedstats": "extended_stats"}
_ALGORITHMS: Final[dict[str, Callable[[_Values], Any]]] = {
    "min": _extreme(func.min),
    "max": _extreme(func.max),
    "sum": _sum,
    "avg": _avg,
    "value_count": _value_count,
    "cardinality": _cardinality,
    "missing": _missing,
    "stats": _stats,
    "extendedstats": _extended_stats,
    "percentiles": _percentiles,
    "terms": _terms,
}
