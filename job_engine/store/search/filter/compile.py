"""Compiling the tree of a filter to an SQL condition (semantics: docs/cimi.md §2.2)."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, false, func, not_, or_, true

from job_engine.errors import InvalidFilterError
from job_engine.model.timestamps import format_ms
from job_engine.store.jobs.documents import Kind
from job_engine.store.search.filter.compare import (
    Condition,
    end_of,
    integer_of,
    number_of,
    one_of,
    starts_with,
    text_of,
    typed,
    within,
    within_text,
)
from job_engine.store.search.filter.dates import Span, moment, parse_span
from job_engine.store.search.filter.fulltext import compile_words
from job_engine.store.search.filter.nodes import And, Compare, Filter, Member, Op, Or, Value
from job_engine.store.search.json_paths import Values, by_code_point, contains, values_of
from job_engine.store.search.source import Source

_CHUNK: Final = 200
"""Terms in one group: SQLite nests them, and refuses trees deeper than 1000."""
MAX_STEPS: Final = 2_500
"""Most steps of paths inside documents that a filter may have.

Each step is a join in a sub-query, and thousands take many seconds to prepare.
"""
_FULLTEXT: Final = ("id", "name", "description", "subtype", "tags")
_RELATIONS: Final[dict[Op, Callable[[Any, Any], Any]]] = {
    Op.LT: operator.lt,
    Op.LE: operator.le,
    Op.GT: operator.gt,
    Op.GE: operator.ge,
}
_ORDERED: Final = frozenset({*_RELATIONS, Op.PREFIX})
"""Operators that hold if any value at the path satisfies them."""


def compile_filter(tree: Filter, source: Source, now_ms: int) -> Condition:
    """Return the condition of a filter. Raises `InvalidFilterError` for what cannot be compared."""
    return _Compiler(source, now_ms).condition(tree)


def attributes_of(tree: Filter) -> Iterator[str]:
    """Yield the attributes that a filter looks at."""
    if isinstance(tree, And | Or):
        for item in tree.items:
            yield from attributes_of(item)
    elif isinstance(tree, Compare) and tree.attribute == "fulltext":
        yield from _FULLTEXT
    else:
        yield tree.attribute


class _Compiler:
    def __init__(self, source: Source, now_ms: int) -> None:
        self._source = source
        self._now_ms = now_ms
        self._steps = 0

    def condition(self, tree: Filter) -> Condition:
        """Compile a node."""
        if isinstance(tree, And):
            return _grouped(and_, [self.condition(i) for i in _merged(tree.items, negated=True)])
        if isinstance(tree, Or):
            return _grouped(or_, self._alternatives(tree.items))
        if isinstance(tree, Member):
            return self._member(tree)
        return self._compare(tree)

    def _alternatives(self, items: Sequence[Filter]) -> Sequence[Condition]:
        """Compile the items of an or, with one sub-query for each attribute of documents."""
        conditions: list[Condition] = []
        by_attribute: dict[str, list[Compare]] = {}
        for item in _merged(items, negated=False):
            if (
                isinstance(item, Compare)
                and item.op in _ORDERED
                and self._source.column(item.attribute) is None
            ):
                by_attribute.setdefault(item.attribute, []).append(item)
            else:
                conditions.append(self.condition(item))
        return [*conditions, *(self._any_of(n, found) for n, found in by_attribute.items())]

    def _any_of(self, name: str, comparisons: Sequence[Compare]) -> Condition:
        """Compile an or of comparisons with the same attribute of documents."""
        found = self._values(name)
        if found is None:
            return false()
        return found.any(_grouped(or_, [self._holds(found, one) for one in comparisons]))

    def _holds(self, found: Values, tree: Compare) -> Condition:
        """Compile a comparison with one value of a document."""
        name, op, value = tree.attribute, tree.op, tree.value
        if op is Op.PREFIX:
            return starts_with(found.string, str(value))
        compare = _RELATIONS[op]
        if name in self._source.date_texts:
            end = format_ms(end_of(op, self._span(value)))
            return compare(found.string, end)  # type: ignore[no-any-return]
        either: Condition = compare(found.string, text_of(value))
        number = number_of(value)
        if number is not None:
            either = or_(either, compare(typed(found.number, number), number))
        return either

    def _member(self, tree: Member) -> Condition:
        if not tree.values:
            return true() if tree.negated else false()
        equal = self._equals(tree.attribute, tree.values)
        return _negated(equal) if tree.negated else equal

    def _compare(self, tree: Compare) -> Condition:
        name, value = tree.attribute, tree.value
        match tree.op:
            case Op.EQ | Op.NE:
                equal = self._absent(name) if value is None else self._equals(name, (value,))
                return equal if tree.op is Op.EQ else _negated(equal)
            case Op.PREFIX:
                return self._prefix(tree)
            case Op.FULLTEXT:
                return self._fulltext(name, str(value))
            case Op.GEO:
                return false()  # no document has a geographic attribute
            case _:
                return self._relation(tree)

    # --- an attribute that has a column, or is in the JSON ---------------------

    def _values(self, name: str) -> Values | None:
        first, *further = name.split("/")
        self._steps += 1 + len(further)
        if self._steps > MAX_STEPS:
            raise InvalidFilterError(
                f"Invalid CIMI filter. It looks at more than {MAX_STEPS} attributes of documents."
            )
        array = self._source.array(first)
        return None if array is None else values_of(array, further)

    def _absent(self, name: str) -> Condition:
        column = self._source.column(name)
        if column is not None:
            return column.is_(None)
        values = self._values(name)
        return true() if values is None else not_(values.any(values.present))

    def _equals(self, name: str, values: Sequence[Value]) -> Condition:
        column = self._source.column(name)
        kind = self._source.kind(name)
        if column is not None and kind is Kind.TEXT:
            return column.in_([text_of(value) for value in values])
        if column is not None and kind is Kind.INTEGER:
            return column.in_([integer_of(name, value) for value in values])
        if column is not None:
            return or_(*(within(column, self._span(value)) for value in values))
        found = self._values(name)
        if found is None:
            return false()
        if name in self._source.date_texts:
            return or_(*(found.any(within_text(found.string, self._span(v))) for v in values))
        return found.any(one_of(found, values))

    def _relation(self, tree: Compare) -> Condition:
        name, op, value = tree.attribute, tree.op, tree.value
        column = self._source.column(name)
        kind = self._source.kind(name)
        compare = _RELATIONS[op]
        if column is not None and kind is Kind.TEXT:
            return compare(by_code_point(column), text_of(value))  # type: ignore[no-any-return]
        if column is not None and kind is Kind.INTEGER:
            return compare(column, integer_of(name, value))  # type: ignore[no-any-return]
        if column is not None:
            return compare(column, end_of(op, self._span(value)))  # type: ignore[no-any-return]
        return self._any_of(name, [tree])

    def _prefix(self, tree: Compare) -> Condition:
        name = tree.attribute
        column = self._source.column(name)
        if column is not None and self._source.kind(name) is not Kind.TEXT:
            raise InvalidFilterError(
                f"Invalid CIMI filter. {name!r} is no text: ^= cannot be used."
            )
        if column is not None:
            return starts_with(by_code_point(column), str(tree.value))
        return self._any_of(name, [tree])

    def _fulltext(self, name: str, query: str) -> Condition:
        if self._source.column(name) is not None and self._source.kind(name) is not Kind.TEXT:
            return self._equals(name, (query,))
        names = _FULLTEXT if name == "fulltext" else (name,)
        return compile_words(
            query, lambda word: or_(false(), *(self._contains(n, word) for n in names))
        )

    def _contains(self, name: str, word: str) -> Condition:
        column = self._source.column(name)
        if column is not None:
            return contains(column, word)
        found = self._values(name)
        return false() if found is None else found.any(contains(found.word, word))

    def _span(self, value: Value) -> Span:
        if isinstance(value, bool) or value is None:
            raise InvalidFilterError(f"Invalid CIMI filter. {text_of(value)} is no date.")
        if isinstance(value, int):
            return moment(value)
        return parse_span(value, self._now_ms)


# --- groups -------------------------------------------------------------------


def _negated(condition: Condition) -> Condition:
    """Return the negation, which also holds where the condition is NULL."""
    return not_(func.coalesce(condition, false()))


def _merged(items: Sequence[Filter], *, negated: bool) -> Iterator[Filter]:
    """Merge comparisons of an attribute into one with a list; filters may have thousands.

    `a=1 or a=2` is `a=[1,2]`, and `a!=1 and a!=2` is `a!=[1,2]`.
    """
    by_attribute: dict[str, list[Value]] = {}
    op = Op.NE if negated else Op.EQ
    for item in items:
        if isinstance(item, Compare) and item.op is op and item.value is not None:
            by_attribute.setdefault(item.attribute, []).append(item.value)
        elif isinstance(item, Member) and item.negated is negated and item.values:
            by_attribute.setdefault(item.attribute, []).extend(item.values)
        else:
            yield item
    for attribute, values in by_attribute.items():
        yield Member(attribute, tuple(values), negated)


def _grouped(
    join: Callable[..., ColumnElement[bool]], conditions: Sequence[Condition]
) -> Condition:
    """Join conditions, in groups where there are many of them."""
    while len(conditions) > _CHUNK:
        chunks = [conditions[i : i + _CHUNK] for i in range(0, len(conditions), _CHUNK)]
        # In a function, or SQLAlchemy would flatten the groups into one again.
        conditions = [func.coalesce(join(*chunk), false()) == true() for chunk in chunks]
    return join(*conditions)
