"""Attributes inside a row's JSON, as SQL: the one place that speaks a dialect's own.

A path goes through arrays as CIMI has it: `affected-resources/href` is the href of any
element. An array directly inside another is no value that can be compared. SQLite's
`json_each` and PostgreSQL's `jsonb_array_elements` say the same, in words of their own:
each element here has a form for both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from sqlalchemy import (
    Boolean,
    ColumnElement,
    FromClause,
    Text,
    func,
    literal,
    select,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import Exists

SQLITE: Final = "sqlite"
POSTGRESQL: Final = "postgresql"


@dataclass(frozen=True)
class Values:
    """What a path leads to: a row for each value, and what that value is as.

    A value that is something else is NULL there: `number` of a text, for one.
    """

    tables: Sequence[FromClause]
    """What they are selected from, beside the table of the documents."""
    present: ColumnElement[bool]
    """Whether it is anything but null."""
    string: ColumnElement[Any]
    word: ColumnElement[Any]
    """A string, or `true` or `false`."""
    number: ColumnElement[Any]

    def any(self, condition: ColumnElement[bool]) -> Exists:
        """Say that one of the values satisfies a condition."""
        return select(1).select_from(*self.tables).where(condition).exists()

    def extreme(self, value: ColumnElement[Any], *, largest: bool) -> ColumnElement[Any]:
        """Return the largest or the smallest of the values, as `value` has them, to sort by."""
        pick = func.max if largest else func.min
        return select(pick(value)).select_from(*self.tables).scalar_subquery()


def member(document: ColumnElement[Any], key: str) -> ColumnElement[Any]:
    """Return the attribute `key` of a document as a JSON array; a scalar as an array of one."""
    return _Member(document, literal(f'$."{key}"', Text), literal(key, Text))


def lacks(document: ColumnElement[Any], key: str) -> ColumnElement[bool]:
    """Say that a document has no attribute `key`, not even a null."""
    return _Lacks(document, literal(f'$."{key}"', Text), literal(key, Text))


def array_of(text: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the JSON array with one text in it."""
    return _ArrayOf(text)


def values_of(first: ColumnElement[Any], further: Sequence[str] = ()) -> Values:
    """Return the values in the array `first`, or those that `further` keys lead to from it."""
    each = _each(first)
    tables: list[FromClause] = [each]
    for key in further:
        found = member(each.c.value, key)
        each = _each(_Inside(each.c.value, each.c.type, found))
        tables.append(each)
    return Values(
        tables,
        *(kind(each.c.value, each.c.type) for kind in (_Present, _String, _Word, _Number)),
    )


def by_code_point(text: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return a text that is compared and sorted by code points, in whatever language."""
    return _ByCodePoint(text)


def contains(text: ColumnElement[Any], word: str) -> ColumnElement[bool]:
    """Say that a text has a word in it, whatever the case of its ASCII letters."""
    lowered = "".join(c.lower() if c.isascii() else c for c in word)
    return _Contains(text, literal(lowered, Text))


def _each(array: ColumnElement[Any]) -> Any:
    return _Each(array).table_valued("value", "type", joins_implicitly=True)


# --- the elements: `{0}` is the first argument of each, as SQL -------------------


class _Element(FunctionElement[Any]):
    """What every dialect has its own words for."""

    forms: ClassVar[Mapping[str, str]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.inherit_cache = True  # asked of each class: all that differs is its arguments


@compiles(_Element)
def _write(element: _Element, compiler: SQLCompiler, **options: Any) -> str:
    arguments = [compiler.process(clause, **options) for clause in element.clauses]
    return element.forms[compiler.dialect.name].format(*arguments)


class _Each(_Element):
    """Rows of `value` and, where the dialect gives it by itself, `type`."""

    forms: ClassVar = {SQLITE: "json_each({0})", POSTGRESQL: "jsonb_array_elements({0})"}


class _Member(_Element):
    """Of a document, a path and a key."""

    # Extracting two paths makes an array in which `true` stays what it is; the second one
    # is never there, and a null is no value.
    forms: ClassVar = {
        SQLITE: "CASE json_type({0}, {1}) WHEN 'array' THEN json_extract({0}, {1}) "
        "ELSE json_extract({0}, {1}, '$[0]') END",
        POSTGRESQL: "CASE jsonb_typeof({0} -> {2}) WHEN 'array' THEN {0} -> {2} "
        "ELSE jsonb_build_array({0} -> {2}) END",
    }


class _Inside(_Element):
    """Of a value, its type and what `_Member` makes of it: nothing unless it is an object."""

    forms: ClassVar = {
        SQLITE: "CASE {1} WHEN 'object' THEN {2} ELSE '[]' END",
        POSTGRESQL: "CASE jsonb_typeof({0}) WHEN 'object' THEN {2} ELSE '[]'::jsonb END",
    }


class _Lacks(_Element):
    type = Boolean()
    forms: ClassVar = {
        SQLITE: "(json_type({0}, {1}) IS NULL)",
        POSTGRESQL: "({0} -> {2} IS NULL)",
    }


class _ArrayOf(_Element):
    forms: ClassVar = {SQLITE: "json_array({0})", POSTGRESQL: "jsonb_build_array({0})"}


class _Present(_Element):
    type = Boolean()
    forms: ClassVar = {SQLITE: "({1} <> 'null')", POSTGRESQL: "(jsonb_typeof({0}) <> 'null')"}


class _String(_Element):
    type = Text()
    forms: ClassVar = {
        SQLITE: "CASE {1} WHEN 'text' THEN {0} END",
        POSTGRESQL: """(CASE jsonb_typeof({0}) WHEN 'string' THEN {0} #>> '{{}}' END """
        """COLLATE "C")""",
    }


class _Word(_Element):
    type = Text()
    forms: ClassVar = {
        SQLITE: "CASE {1} WHEN 'text' THEN {0} WHEN 'true' THEN 'true' "
        "WHEN 'false' THEN 'false' END",
        POSTGRESQL: """(CASE WHEN jsonb_typeof({0}) IN ('string', 'boolean') """
        """THEN {0} #>> '{{}}' END COLLATE "C")""",
    }


class _Number(_Element):
    forms: ClassVar = {
        SQLITE: "CASE WHEN {1} IN ('integer', 'real') THEN {0} END",
        POSTGRESQL: "CASE jsonb_typeof({0}) WHEN 'number' THEN CAST({0} #>> '{{}}' AS NUMERIC) END",
    }


class _ByCodePoint(_Element):
    type = Text()
    forms: ClassVar = {SQLITE: "{0}", POSTGRESQL: '({0} COLLATE "C")'}


class _Contains(_Element):
    """Both dialects lower the ASCII letters only: PostgreSQL by its collation."""

    type = Boolean()
    forms: ClassVar = {
        SQLITE: "(instr(lower({0}), {1}) > 0)",
        POSTGRESQL: """(strpos(lower({0} COLLATE "C"), {1}) > 0)""",
    }
