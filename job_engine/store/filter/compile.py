"""From the tree of a filter to a condition (semantics: specs/cimi-api.md §2.2)."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Text,
    and_,
    case,
    cast,
    false,
    func,
    not_,
    or_,
    true,
)

from job_engine.errors import InvalidFilterError
from job_engine.model.timestamps import FIRST_MS, LAST_MS, format_ms
from job_engine.store.documents import Kind
from job_engine.store.filter.dates import Span, parse_span
from job_engine.store.filter.nodes import And, Compare, Filter, Member, Op, Or, Value
from job_engine.store.json_paths import Values, values_of
from job_engine.store.source import Source

Condition = ColumnElement[bool]

_CHUNK: Final = 200
"""Terms in one group: SQLite nests them, and refuses trees deeper than 1000."""
MAX_STEPS: Final = 2_500
"""Attributes inside documents that a filter may look at, each step of a path for itself.

Each is a sub-query: thousands take many seconds to prepare, before the first row.
"""
MAX_WORDS: Final = 100
"""Words that one full-text comparison may look for."""
_FULLTEXT: Final = ("id", "name", "description", "tags")
_RELATIONS: Final[dict[Op, Callable[[Any, Any], Any]]] = {
    Op.LT: operator.lt,
    Op.LE: operator.le,
    Op.GT: operator.gt,
    Op.GE: operator.ge,
}
_MAX_INT: Final = 2**63 - 1


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
            return _grouped(or_, [self.condition(i) for i in _merged(tree.items, negated=False)])
        if isinstance(tree, Member):
            return self._member(tree)
        return self._compare(tree)

    def _member(self, tree: Member) -> Condition:
        if not tree.values:
            return true() if tree.negated else false()
        one_of = self._equals(tree.attribute, tree.values)
        return _negated(one_of) if tree.negated else one_of

    def _compare(self, tree: Compare) -> Condition:
        name, value = tree.attribute, tree.value
        match tree.op:
            case Op.EQ | Op.NE:
                equal = self._absent(name) if value is None else self._equals(name, (value,))
                return equal if tree.op is Op.EQ else _negated(equal)
            case Op.PREFIX:
                return self._prefix(name, str(value))
            case Op.FULLTEXT:
                return self._fulltext(name, str(value))
            case Op.GEO:
                return false()  # nothing here has a place
            case _:
                return self._relation(name, tree.op, value)

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
        return true() if values is None else not_(values.any(values.type != "null"))

    def _equals(self, name: str, values: Sequence[Value]) -> Condition:
        column = self._source.column(name)
        kind = self._source.kind(name)
        if column is not None and kind is Kind.TEXT:
            return column.in_([_text(value) for value in values])
        if column is not None and kind is Kind.INTEGER:
            return column.in_([_integer(name, value) for value in values])
        if column is not None:
            return or_(*(_within(column, self._span(value)) for value in values))
        found = self._values(name)
        if found is None:
            return false()
        if name in self._source.date_texts:
            return or_(*(found.any(_within_text(found.value, self._span(v))) for v in values))
        return found.any(_as_text(found).in_([_text(value) for value in values]))

    def _relation(self, name: str, op: Op, value: Value) -> Condition:
        column = self._source.column(name)
        kind = self._source.kind(name)
        compare = _RELATIONS[op]
        if column is not None and kind is Kind.TEXT:
            return compare(column, _text(value))  # type: ignore[no-any-return]
        if column is not None and kind is Kind.INTEGER:
            return compare(column, _integer(name, value))  # type: ignore[no-any-return]
        if column is not None:
            return compare(column, _end(op, self._span(value)))  # type: ignore[no-any-return]
        found = self._values(name)
        if found is None:
            return false()
        if name in self._source.date_texts:
            end = format_ms(_end(op, self._span(value)))
            return found.any(compare(found.value, end))
        texts = and_(found.type == "text", compare(found.value, _text(value)))
        if not _text(value).isdecimal():
            return found.any(texts)
        numbers = and_(
            found.type.in_(["integer", "real"]), compare(found.value, _integer(name, value))
        )
        return found.any(or_(texts, numbers))

    def _prefix(self, name: str, prefix: str) -> Condition:
        column = self._source.column(name)
        if column is not None and self._source.kind(name) is not Kind.TEXT:
            raise InvalidFilterError(
                f"Invalid CIMI filter. {name!r} is no text: ^= cannot be used."
            )
        # Not LIKE, which is blind to case in SQLite.
        if column is not None:
            return func.substr(column, 1, len(prefix)) == prefix
        found = self._values(name)
        if found is None:
            return false()
        return found.any(
            and_(found.type == "text", func.substr(found.value, 1, len(prefix)) == prefix)
        )

    def _fulltext(self, name: str, query: str) -> Condition:
        words = [word.strip('*"+').lower() for word in query.split()]
        if len(words) > MAX_WORDS:
            raise InvalidFilterError(f"Invalid CIMI filter. More than {MAX_WORDS} words in a ==.")
        names = _FULLTEXT if name == "fulltext" else (name,)
        return or_(false(), *(self._contains(n, word) for n in names for word in words if word))

    def _contains(self, name: str, word: str) -> Condition:
        column = self._source.column(name)
        if column is not None:
            return func.instr(func.lower(cast(column, Text)), word) > 0
        found = self._values(name)
        if found is None:
            return false()
        return found.any(func.instr(func.lower(cast(found.value, Text)), word) > 0)

    def _span(self, value: Value) -> Span:
        if isinstance(value, bool) or value is None:
            raise InvalidFilterError(f"Invalid CIMI filter. {_text(value)} is no date.")
        if isinstance(value, int):
            at_ms = max(FIRST_MS, min(value, LAST_MS))
            return Span(at_ms, at_ms)
        return parse_span(value, self._now_ms)


# --- values -------------------------------------------------------------------


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _integer(name: str, value: Value) -> int:
    text = _text(value).strip()
    try:
        number = int(text)
    except ValueError:
        raise InvalidFilterError(
            f"Invalid CIMI filter. {name!r} is a number, and {text!r} is none."
        ) from None
    return max(-_MAX_INT, min(number, _MAX_INT))


def _as_text(values: Values) -> ColumnElement[str]:
    return case((values.type.in_(["true", "false"]), values.type), else_=cast(values.value, Text))


def _within(column: ColumnElement[Any], span: Span) -> Condition:
    if span.first_ms == span.last_ms:
        return column == span.first_ms
    return column.between(span.first_ms, span.last_ms)


def _within_text(value: ColumnElement[Any], span: Span) -> Condition:
    return value.between(format_ms(span.first_ms), format_ms(span.last_ms))


def _end(op: Op, span: Span) -> int:
    """Return the end of a span that a comparison is with: `>` and `<=` take the last."""
    return span.last_ms if op in (Op.GT, Op.LE) else span.first_ms


# --- groups -------------------------------------------------------------------


def _negated(condition: Condition) -> Condition:
    """Negate, so that what is absent counts as different."""
    return not_(func.coalesce(condition, false()))


def _merged(items: Sequence[Filter], *, negated: bool) -> Iterator[Filter]:
    """Make one list of the values of an attribute; thousands of them are usual.

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
