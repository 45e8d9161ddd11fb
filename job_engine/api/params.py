"""CIMI parameters, from the query string and a form body (docs/cimi.md §1.2, §1.4)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final
from urllib.parse import parse_qs

from job_engine.api.errors import RequestError
from job_engine.errors import InvalidFilterError
from job_engine.store.search.filter import Filter, join_filters, parse_filter

MAX_FILTER: Final = 500_000
"""Characters of all filters of a request; one with 5000 ids has about 300,000."""
MAX_ITEMS: Final = 50
"""Attributes to order by, and aggregations, that one request may have."""
_INT64: Final = 2**63
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,19}")
"""An integer as the contract writes it; `int` also takes blanks, `1_0` and other digits."""


@dataclass(frozen=True)
class Params:
    """The parameters of a query (docs/cimi.md §1.4)."""

    first: int = 1
    last: int | None = None
    filters: tuple[str, ...] = ()
    """Filters, all of which have to match."""
    orderby: tuple[tuple[str, bool], ...] = ()
    """Attribute, and whether descending."""
    select: frozenset[str] | None = None
    aggregation: tuple[str, ...] = ()
    after: int = 0
    """Line of a log after which to continue."""

    def check(self) -> None:
        """Raise `InvalidFilterError` for a malformed filter, also where nothing is searched."""
        _ = self.filter

    @cached_property
    def filter(self) -> Filter | None:
        """The parsed filter; parsed on first use, which is after the caller was authorised.

        Raises `InvalidFilterError`.
        """
        return join_filters([parse_filter(f) for f in self.filters]) if self.filters else None


_DEFAULTS: Final = Params()


def parse_params(query_string: str, form: Mapping[str, Sequence[str]]) -> Params:
    """Parse the parameters; the query string takes precedence over the form.

    Raises `InvalidFilterError`, and `RequestError` for too many sort keys or aggregations.
    """
    if not query_string and not form:
        return _DEFAULTS  # most requests that change something
    values = {**form, **parse_qs(query_string, keep_blank_values=True)}
    filters = values.get("filter", ())
    if sum(map(len, filters)) > MAX_FILTER:
        raise InvalidFilterError(f"Invalid CIMI filter. More than {MAX_FILTER} characters.")
    selected = list(_listed(values.get("select", ())))
    return Params(
        first=max(1, _first_int(values.get("first", ())) or 1),
        last=_first_int(values.get("last", ())),
        filters=tuple(filters),
        orderby=tuple(order for item in _few("orderby", values) if (order := _order(item))[0]),
        select=frozenset(selected) if "select" in values else None,
        aggregation=tuple(_few("aggregation", values)),
        after=max(0, _first_int(values.get("after", ())) or 0),
    )


def _listed(values: Iterable[str]) -> Iterable[str]:
    for value in values:
        for item in value.split(","):
            if item.strip():
                yield item.strip()


def _few(name: str, values: Mapping[str, Sequence[str]]) -> Sequence[str]:
    items = list(_listed(values.get(name, ())))
    if len(items) > MAX_ITEMS:
        raise RequestError(f"{name}: more than {MAX_ITEMS} attributes")
    return items


def _first_int(values: Iterable[str]) -> int | None:
    for value in values:
        if _INTEGER.fullmatch(value) and -_INT64 <= (number := int(value)) < _INT64:
            return number
    return None


def _order(item: str) -> tuple[str, bool]:
    name, colon, direction = item.rpartition(":")
    if colon and direction in ("asc", "desc"):
        return name, direction == "desc"
    return item, False
