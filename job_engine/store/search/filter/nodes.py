"""What a parsed filter is made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class Op(StrEnum):
    """How an attribute is compared."""

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
    """A date that was written without quotes."""

    __slots__ = ()


Value: TypeAlias = str | int | bool | None


@dataclass(frozen=True)
class Compare:
    """An attribute against one value."""

    attribute: str
    """With its slashes: `target-resource/href`."""
    op: Op
    value: Value


@dataclass(frozen=True)
class Member:
    """An attribute against a list: one of, or none of its values."""

    attribute: str
    values: tuple[Value, ...]
    negated: bool = False


@dataclass(frozen=True)
class And:
    """All of several."""

    items: tuple[Filter, ...]


@dataclass(frozen=True)
class Or:
    """Any of several."""

    items: tuple[Filter, ...]


Filter: TypeAlias = Compare | Member | And | Or
