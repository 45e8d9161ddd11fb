"""CIMI parameters, from the query string and a form body (specs/cimi-api.md §1.2, §1.4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

from job_engine.store.filter import Filter, join_filters, parse_filter

_INT64 = 2**63


@dataclass(frozen=True)
class Params:
    """What a request asks of a query; see the contract for each."""

    first: int = 1
    last: int | None = None
    filter: Filter | None = None
    orderby: tuple[tuple[str, bool], ...] = ()
    """Attribute, and whether descending."""
    select: frozenset[str] | None = None
    aggregation: tuple[str, ...] = ()
    has_filter: bool = False
    after: int = 0
    """Line of a log to go on after."""


def parse_params(query_string: str, form: Mapping[str, Sequence[str]]) -> Params:
    """Read the parameters; the query string wins. Raises `InvalidFilterError`."""
    values = {**form, **parse_qs(query_string, keep_blank_values=True)}
    filters = values.get("filter", ())
    selected = list(_listed(values.get("select", ())))
    return Params(
        first=max(1, _first_int(values.get("first", ())) or 1),
        last=_first_int(values.get("last", ())),
        filter=join_filters([parse_filter(f) for f in filters]) if filters else None,
        orderby=tuple(_order(item) for item in _listed(values.get("orderby", ()))),
        select=frozenset(selected) if "select" in values else None,
        aggregation=tuple(_listed(values.get("aggregation", ()))),
        has_filter=bool(filters),
        after=max(0, _first_int(values.get("after", ())) or 0),
    )


def _listed(values: Iterable[str]) -> Iterable[str]:
    for value in values:
        for item in value.split(","):
            if item.strip():
                yield item.strip()


def _first_int(values: Iterable[str]) -> int | None:
    for value in values:
        try:
            number = int(value)
        except ValueError:
            continue
        if -_INT64 <= number < _INT64:
            return number
    return None


def _order(item: str) -> tuple[str, bool]:
    name, _, direction = item.rpartition(":")
    if name and direction in ("asc", "desc"):
        return name, direction == "desc"
    return item, False
