"""Attributes inside a row's JSON, as SQL; the only module of searches with dialects of SQL.

A path passes through arrays (CIMI): `affected-resources/href` is the href of any element. An
array directly inside another one has no comparable value. Each SQL element of this module has
a form for SQLite (`json_each`) and one for PostgreSQL (`jsonb_array_elements`).
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
    """The values at a path: tables with a row for each value, and the value by type.

    A value of another type is NULL, such as `number` for a text.
    """

    tables: Sequence[FromClause]
    """Tables to select from, in addition to that of the documents."""
    present: ColumnElement[bool]
    """Whether the value is not null."""
    string: ColumnElement[Any]
    word: ColumnElement[Any]
    """A string, or `true` or `false`."""
    number: ColumnElement[Any]

    def any(self, condition: ColumnElement[bool]) -> Exists:
        """Return the condition that one of the values satisfies a condition."""
        return select(1).select_from(*self.tables).where(condition).exists()

    def extreme(self, value: ColumnElement[Any], *, largest: bool) -> ColumnElement[Any]:
        """Return the largest or smallest value to sort by; `value` is one of the columns here."""
        pick = func.max if largest else func.min
        return select(pick(value)).select_from(*self.tables).scalar_subquery()


def member(document: ColumnElement[Any], key: str) -> ColumnElement[Any]:
    """Return the attribute `key` of a document as a JSON array; a scalar as an array of one."""
    return _Member(document, literal(f'$."{key}"', Text), literal(key, Text))


def lacks(document: ColumnElement[Any], key: str) -> ColumnElement[bool]:
    """Return the condition that a document has no attribute `key`, not even a null."""
    return _Lacks(document, literal(f'$."{key}"', Text), literal(key, Text))


def array_of(text: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the JSON array with one text in it."""
    return _ArrayOf(text)


def values_of(first: ColumnElement[Any], further: Sequence[str] = ()) -> Values:
    """Return the values in the array `first`, or those at the path `further` below it."""
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
    """Return a text that is compared by code points, whatever the database's collation."""
    return _ByCodePoint(text)


def contains(text: ColumnElement[Any], word: str) -> ColumnElement[bool]:
    """Return the condition that a text contains a word, ignoring the case of ASCII letters."""
    lowered = "".join(c.lower() if c.isascii() else c for c in word)
    return _Contains(text, literal(lowered, Text))


def _each(array: ColumnElement[Any]) -> Any:
    return _Each(array).table_valued("value", "type", joins_implicitly=True)


# --- SQL elements: in their forms, `{0}` is the first argument, as SQL -----------


class _Element(FunctionElement[Any]):
    """An SQL expression with a form for each dialect."""

    forms: ClassVar[Mapping[str, str]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.inherit_cache = True  # SQLAlchemy reads it from each class; arguments are the key


@compiles(_Element)
def _write(element: _Element, compiler: SQLCompiler, **options: Any) -> str:
    arguments = [compiler.process(clause, **options) for clause in element.clauses]
    return element.forms[compiler.dialect.name].format(*arguments)


class _Each(_Element):
    """A row for each element of an array: `value`, and on SQLite its `type`."""

    forms: ClassVar = {SQLITE: "json_each({0})", POSTGRESQL: "jsonb_array_elements({0})"}


class _Member(_Element):
    """The attribute of a document as an array; arguments: document, path, key."""

    # SQLite: extracting two paths gives an array that keeps `true` apart from 1. The second path
    # never exists and gives a null, which is not a value.
    forms: ClassVar = {
        SQLITE: "CASE json_type({0}, {1}) WHEN 'array' THEN json_extract({0}, {1}) "
        "ELSE json_extract({0}, {1}, '$[0]') END",
        POSTGRESQL: "CASE jsonb_typeof({0} -> {2}) WHEN 'array' THEN {0} -> {2} "
        "ELSE jsonb_build_array({0} -> {2}) END",
    }


class _Inside(_Element):
    """An object's member, else an empty array; arguments: value, its type, its `_Member`."""

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
    """Both forms lower ASCII letters only, PostgreSQL's because of its collation."""

    type = Boolean()
    forms: ClassVar = {
        SQLITE: "(instr(lower({0}), {1}) > 0)",
        POSTGRESQL: """(strpos(lower({0} COLLATE "C"), {1}) > 0)""",
    }
