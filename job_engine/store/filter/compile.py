"""From the tree of a filter to a condition (semantics: specs/cimi-api.md §2.2)."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Float,
    and_,
    false,
    func,
    not_,
    or_,
    true,
    type_coerce,
)

from job_engine.errors import InvalidFilterError
from job_engine.model.timestamps import format_ms
from job_engine.store.documents import Kind
from job_engine.store.filter.dates import Span, moment, parse_span
from job_engine.store.filter.fulltext import compile_words
from job_engine.store.filter.nodes import And, Compare, Filter, Member, Op, Or, Value
from job_engine.store.filter.parser import MAX_DIGITS
from job_engine.store.json_paths import Values, by_code_point, contains, values_of
from job_engine.store.source import Source

Condition = ColumnElement[bool]

_CHUNK: Final = 200
"""Terms in one group: SQLite nests them, and refuses trees deeper than 1000."""
MAX_STEPS: Final = 2_500
"""Attributes inside documents that a filter may look at, each step of a path for itself.

Each is a sub-query: thousands take many seconds to prepare, before the first row.
"""
_FULLTEXT: Final = ("id", "name", "description", "subtype", "tags")
_RELATIONS: Final[dict[Op, Callable[[Any, Any], Any]]] = {
    Op.LT: operator.lt,
    Op.LE: operator.le,
    Op.GT: operator.gt,
    Op.GE: operator.ge,
}
_MAX_INT: Final = 2**63 - 1
_LAST: Final = chr(0x10FFFF)
_INTEGER: Final = re.compile(rf"-?[0-9]{{1,{MAX_DIGITS + 1}}}")
_DECIMAL: Final = re.compile(rf"-?[0-9]{{1,{MAX_DIGITS + 1}}}(\.[0-9]{{1,{MAX_DIGITS}}})?")


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
        return true() if values is None else not_(values.any(values.present))

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
            return or_(*(found.any(_within_text(found.string, self._span(v))) for v in values))
        return found.any(_one_of(found, values))

    def _relation(self, name: str, op: Op, value: Value) -> Condition:
        column = self._source.column(name)
        kind = self._source.kind(name)
        compare = _RELATIONS[op]
        if column is not None and kind is Kind.TEXT:
            return compare(by_code_point(column), _text(value))  # type: ignore[no-any-return]
        if column is not None and kind is Kind.INTEGER:
            return compare(column, _integer(name, value))  # type: ignore[no-any-return]
        if column is not None:
            return compare(column, _end(op, self._span(value)))  # type: ignore[no-any-return]
        found = self._values(name)
        if found is None:
            return false()
        if name in self._source.date_texts:
            end = format_ms(_end(op, self._span(value)))
            return found.any(compare(found.string, end))
        either = compare(found.string, _text(value))
        number = _number(value)
        if number is not None:
            either = or_(either, compare(_typed(found.number, number), number))
        return found.any(either)

    def _prefix(self, name: str, prefix: str) -> Condition:
        column = self._source.column(name)
        if column is not None and self._source.kind(name) is not Kind.TEXT:
            raise InvalidFilterError(
                f"Invalid CIMI filter. {name!r} is no text: ^= cannot be used."
            )
        if column is not None:
            return _starts_with(by_code_point(column), prefix)
        found = self._values(name)
        return false() if found is None else found.any(_starts_with(found.string, prefix))

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
            raise InvalidFilterError(f"Invalid CIMI filter. {_text(value)} is no date.")
        if isinstance(value, int):
            return moment(value)
        return parse_span(value, self._now_ms)


# --- values -------------------------------------------------------------------


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _integer(name: str, value: Value) -> int:
    text = _text(value).strip()
    if not _INTEGER.fullmatch(text):
        raise InvalidFilterError(
            f"Invalid CIMI filter. {name!r} is a number, and {text[:50]!r} is none."
        )
    return max(-_MAX_INT, min(int(text), _MAX_INT))


def _number(value: Value) -> int | float | None:
    """Return the number that a value is, or is the text of; None for none."""
    text = _text(value)
    if isinstance(value, bool) or not _DECIMAL.fullmatch(text):
        return None
    number = float(text) if "." in text else int(text)
    # Larger integers have no room in a statement, nor in a document.
    return number if -_MAX_INT <= number <= _MAX_INT else float(number)


def _typed(column: ColumnElement[Any], number: float) -> ColumnElement[Any]:
    return type_coerce(column, BigInteger if isinstance(number, int) else Float)


def _one_of(found: Values, values: Sequence[Value]) -> Condition:
    """Say that a value of a document is one of a filter's, as a text or as a number."""
    numbers = [n for n in map(_number, values) if n is not None]
    conditions = [found.word.in_([_text(value) for value in values])]
    for kind in (int, float):
        of_kind = [n for n in numbers if type(n) is kind]
        if of_kind:
            conditions.append(_typed(found.number, of_kind[0]).in_(of_kind))
    return or_(*conditions)


def _starts_with(text: ColumnElement[Any], prefix: str) -> Condition:
    """Say that a text starts with another: as a range, which an index can answer.

    Not LIKE either, which is blind to case in SQLite.
    """
    end = _after(prefix)
    return text >= prefix if end is None else and_(text >= prefix, text < end)


def _after(prefix: str) -> str | None:
    """Return the first text, by code points, after all that start with `prefix`."""
    kept = prefix.rstrip(_LAST)
    if not kept:
        return None
    last = ord(kept[-1]) + 1
    # Surrogates are no characters, and have no bytes in UTF-8.
    return kept[:-1] + chr(0xE000 if 0xD800 <= last <= 0xDFFF else last)


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
