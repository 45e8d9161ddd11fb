"""Converting a filter's values, and comparing columns and attributes of documents with them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Float, and_, or_, type_coerce

from job_engine.errors import InvalidFilterError
from job_engine.model.timestamps import format_ms
from job_engine.store.search.filter.dates import Span
from job_engine.store.search.filter.nodes import Op, Value
from job_engine.store.search.filter.parser import MAX_DIGITS
from job_engine.store.search.json_paths import Values

Condition = ColumnElement[bool]

_MAX_INT: Final = 2**63 - 1
_LAST: Final = chr(0x10FFFF)
_INTEGER: Final = re.compile(rf"-?[0-9]{{1,{MAX_DIGITS + 1}}}")
_DECIMAL: Final = re.compile(rf"-?[0-9]{{1,{MAX_DIGITS + 1}}}(\.[0-9]{{1,{MAX_DIGITS}}})?")


def text_of(value: Value) -> str:
    """Return a value as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def integer_of(name: str, value: Value) -> int:
    """Return a value as an integer of 64 bits, or the nearest one.

    Raises `InvalidFilterError` for a value that is not a whole number; `name` is the attribute.
    """
    text = text_of(value).strip()
    if not _INTEGER.fullmatch(text):
        raise InvalidFilterError(
            f"Invalid CIMI filter. {name!r} is a number, and {text[:50]!r} is none."
        )
    return max(-_MAX_INT, min(int(text), _MAX_INT))


def number_of(value: Value) -> int | float | None:
    """Return a value as a number; None: it is not a number or the text of one."""
    text = text_of(value)
    if isinstance(value, bool) or not _DECIMAL.fullmatch(text):
        return None
    number = float(text) if "." in text else int(text)
    # Larger integers fit neither a statement nor a document.
    return number if -_MAX_INT <= number <= _MAX_INT else float(number)


def typed(column: ColumnElement[Any], number: float) -> ColumnElement[Any]:
    """Return a column of numbers with the SQL type of `number`, which is then bound as such."""
    return type_coerce(column, BigInteger if isinstance(number, int) else Float)


def one_of(found: Values, values: Sequence[Value]) -> Condition:
    """Return the condition that a document's value equals one of `values`, as text or number."""
    numbers = [n for n in map(number_of, values) if n is not None]
    conditions = [found.word.in_([text_of(value) for value in values])]
    for kind in (int, float):
        of_kind = [n for n in numbers if type(n) is kind]
        if of_kind:
            conditions.append(typed(found.number, of_kind[0]).in_(of_kind))
    return or_(*conditions)


def starts_with(text: ColumnElement[Any], prefix: str) -> Condition:
    """Return the condition that a text starts with `prefix`, as a range, so that indexes help.

    LIKE would also ignore case in SQLite.
    """
    end = _after(prefix)
    return text >= prefix if end is None else and_(text >= prefix, text < end)


def _after(prefix: str) -> str | None:
    """Return the least text greater than all that start with `prefix`; None: there is none."""
    kept = prefix.rstrip(_LAST)
    if not kept:
        return None
    last = ord(kept[-1]) + 1
    # Surrogates are no characters, and have no bytes in UTF-8.
    return kept[:-1] + chr(0xE000 if 0xD800 <= last <= 0xDFFF else last)


def within(column: ColumnElement[Any], span: Span) -> Condition:
    """Return the condition that a time is within a span."""
    if span.first_ms == span.last_ms:
        return column == span.first_ms
    return column.between(span.first_ms, span.last_ms)


def within_text(value: ColumnElement[Any], span: Span) -> Condition:
    """Return the condition that a timestamp in the server's format is within a span."""
    return value.between(format_ms(span.first_ms), format_ms(span.last_ms))


def end_of(op: Op, span: Span) -> int:
    """Return the end of a span to compare with: the last for `>` and `<=`, else the first."""
    return span.last_ms if op in (Op.GT, Op.LE) else span.first_ms
