"""What a filter means, over plain documents: written apart from what compiles it to SQL.

Only the tree of a filter is shared. Dates are looked up in what made them, not read again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from job_engine.model.timestamps import parse_ms
from job_engine.store.base import Document
from job_engine.store.search.filter.nodes import And, Compare, Filter, Member, Op, Or, Value

DATES: Final = frozenset({"created", "updated", "started", "expiry", "not-before"})
INTEGERS: Final = frozenset({"progress", "priority", "version", "duration", "return-code"})
FULLTEXT: Final = ("id", "name", "description", "subtype", "tags")
_LARGEST: Final = 2**63 - 1

Spans = Mapping[str, tuple[int, int]]
"""First and last millisecond of each text of a date."""


def holds(tree: Filter, document: Document, spans: Spans) -> bool:
    """Whether a document satisfies a filter."""
    if isinstance(tree, And):
        return all(holds(item, document, spans) for item in tree.items)
    if isinstance(tree, Or):
        return any(holds(item, document, spans) for item in tree.items)
    if isinstance(tree, Member):
        found = any(equals(tree.attribute, document, value, spans) for value in tree.values)
        return found is not tree.negated
    return compares(tree, document, spans)


def compares(tree: Compare, document: Document, spans: Spans) -> bool:
    """Whether a document satisfies one comparison."""
    name, value = tree.attribute, tree.value
    if tree.op is Op.EQ:
        return equals(name, document, value, spans)
    if tree.op is Op.NE:
        return not equals(name, document, value, spans)
    if tree.op is Op.FULLTEXT:
        names = FULLTEXT if name == "fulltext" else (name,)
        words = [w for n in names for v in values(document, n) if (w := word(v)) is not None]
        return searched(str(value), words)
    found = list(values(document, name))
    if tree.op is Op.PREFIX:
        return any(isinstance(v, str) and v.startswith(str(value)) for v in found)
    if name in DATES:
        first, last = spans[str(value)]
        limit = last if tree.op in (Op.GT, Op.LE) else first
        return any(ordered(tree.op, parse_ms(v), limit) for v in found)
    if name in INTEGERS:
        return any(ordered(tree.op, v, int(text(value))) for v in found)
    return any(related(tree.op, v, value) for v in found)


def related(op: Op, found: Any, value: Value) -> bool:
    """Compare texts with texts and numbers with numbers, and nothing else."""
    if isinstance(found, str):
        return ordered(op, found, text(value))
    limit = number(value)
    if isinstance(found, bool) or not isinstance(found, int | float) or limit is None:
        return False
    return ordered(op, found, limit)


def equals(name: str, document: Document, value: Value, spans: Spans) -> bool:
    """Whether any of an attribute's values is the value; none of them is what null means."""
    found = list(values(document, name))
    if value is None:
        return not found
    if name in DATES:
        first, last = spans[text(value)]
        return any(first <= parse_ms(v) <= last for v in found)
    if name in INTEGERS:
        return any(v == int(text(value)) for v in found)
    return any(same(v, value) for v in found)


def same(found: Any, value: Value) -> bool:
    """Whether one value of a document is the value of a filter."""
    if word(found) is not None:
        return word(found) == text(value)
    return isinstance(found, int | float) and found == number(value)


def values(document: Document, name: str) -> Iterator[Any]:
    """Yield what a path leads to, through arrays, but for nulls."""
    found: list[Any] = [document]
    for key in name.split("/"):
        inner = [d.get(key) for d in found if isinstance(d, dict)]
        found = [item for each in inner for item in (each if isinstance(each, list) else [each])]
    yield from (item for item in found if item is not None)


def searched(query: str, words: list[str]) -> bool:
    """Whether texts satisfy a simple query, read from left to right."""
    results: list[bool] = []
    both = False
    for token in query.split():
        if token in ("+", "|"):
            both = both or token == "+"
            continue
        bare = token.lstrip("-").rstrip("*")
        found = any(lowered(bare) in lowered(w) for w in words) is not token.startswith("-")
        before = results[-1:] or [both]
        results.append(before[0] and found if both else before[0] or found)
        both = False
    return bool(results) and results[-1]


def lowered(of: str) -> str:
    """Lower the ASCII letters."""
    return re.sub("[A-Z]", lambda letter: letter[0].lower(), of)


def word(value: Any) -> str | None:
    """A text, or the name of a boolean."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else None


def text(value: Value) -> str:
    """A filter's value as it would be quoted."""
    return "true" if value is True else "false" if value is False else str(value)


def number(value: Value) -> int | float | None:
    """A filter's value as a number, quoted or not."""
    if isinstance(value, bool) or not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text(value)):
        return None
    if "." in text(value):
        return float(text(value))
    whole = int(text(value))
    return whole if abs(whole) <= _LARGEST else float(whole)


def ordered(op: Op, left: Any, right: Any) -> bool:
    """Compare two of a kind."""
    if op in (Op.LT, Op.LE):
        return bool(left < right or (op is Op.LE and left == right))
    return bool(left > right or (op is Op.GE and left == right))


def sort_key(document: Document, name: str, *, descending: bool) -> tuple[Any, ...]:
    """What a document is sorted by: who has nothing last, numbers and then texts."""
    found = list(values(document, name))
    if name in DATES:
        found = [parse_ms(v) for v in found]
    numbers = [v for v in found if isinstance(v, int | float) and not isinstance(v, bool)]
    words = [w for v in found if (w := word(v)) is not None]
    pick = max if descending else min
    return (pick(numbers, default=None), pick(words, default=None))
