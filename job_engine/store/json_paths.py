"""Attributes inside a row's JSON, as SQL.

A path goes through arrays as CIMI has it: `affected-resources/href` is the href of any
element. This is the one place that speaks a dialect's own JSON functions: SQLite's
`json_each` here, where PostgreSQL would have `jsonb_path_query`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Text, case, func, select, type_coerce
from sqlalchemy.sql.selectable import Exists


@dataclass(frozen=True)
class Values:
    """The scalars that a path leads to: rows with `value` and its JSON `type`."""

    tables: Sequence[FromClause]
    """What they are selected from, beside the table of the documents."""
    value: ColumnElement[Any]
    type: ColumnElement[Any]

    def any(self, condition: ColumnElement[bool]) -> Exists:
        """Say that one of the values satisfies a condition."""
        return select(1).select_from(*self.tables).where(condition).exists()


def member(document: ColumnElement[Any], key: str) -> ColumnElement[Any]:
    """Return the attribute `key` of a document as a JSON array; a scalar as an array of one."""
    text = type_coerce(document, Text)
    path = f'$."{key}"'
    found = func.json_extract(text, path)
    # Extracting two paths makes an array in which `true` stays what it is; the second one
    # is never there, and a null is no value.
    scalar_array = func.json_extract(text, path, "$[0]")
    return case((func.json_type(text, path) == "array", found), else_=scalar_array)


def values_of(first: ColumnElement[Any], further: Sequence[str] = ()) -> Values:
    """Return the values in the array `first`, or those that `further` keys lead to from it."""
    each = func.json_each(first).table_valued("value", "type", joins_implicitly=True)
    tables: list[FromClause] = [each]
    for key in further:
        inside = case((each.c.type == "object", member(each.c.value, key)), else_="[]")
        each = func.json_each(inside).table_valued("value", "type", joins_implicitly=True)
        tables.append(each)
    return Values(tables, each.c.value, each.c.type)


def scalar(document: ColumnElement[Any], keys: Sequence[str]) -> ColumnElement[Any]:
    """Return the value at a path that goes through no array, to sort by."""
    path = "$" + "".join(f'."{key}"' for key in keys)
    return func.json_extract(type_coerce(document, Text), path)
