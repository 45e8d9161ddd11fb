"""The nodes of a parsed filter."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class Op(StrEnum):
    """An operator of a comparison."""

    EQ = "="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="
    PREFIX = "^="
    FULLTEXT = "=="
    GEO = "geo"


class DateText(str):
    """A date without quotes."""

    __slots__ = ()


Value: TypeAlias = str | int | bool | None


@dataclass(frozen=True)
class Compare:
    """A comparison of an attribute with one value."""

    attribute: str
    """Its path, such as `target-resource/href`."""
    op: Op
    value: Value


@dataclass(frozen=True)
class Member:
    """A comparison of an attribute with a list: it equals one of the values, or none."""

    attribute: str
    values: tuple[Value, ...]
    negated: bool = False


@dataclass(frozen=True)
class And:
    """A conjunction."""

    items: tuple[Filter, ...]


@dataclass(frozen=True)
class Or:
    """A disjunction."""

    items: tuple[Filter, ...]


Filter: TypeAlias = Compare | Member | And | Or
