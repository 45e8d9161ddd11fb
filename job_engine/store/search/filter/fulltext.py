"""The operator `==`: Elasticsearch's simple query strings (docs/cimi.md §2.2).

`backup weekly` matches either word (as does `backup | weekly`), `backup +weekly` both, `-old`
its absence, and `"a b"` the phrase. Operators apply from left to right. A word matches anywhere
in a text, also inside a word, and ignores the case of ASCII letters; so the `*` of a prefix is
dropped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, and_, false, func, not_, or_

from job_engine.errors import InvalidFilterError

MAX_WORDS: Final = 100
"""Most words of one query string."""

MAX_QUERY: Final = 10_000
"""Longest query string, in characters."""

# Possessive, because backtracking over many blanks would take quadratic time.
_TOKEN: Final = re.compile(r'([+|\s]*+)(-?)(?:"([^"]*+)"?|([^\s+|"]++)|$)')


@dataclass(frozen=True)
class Word:
    """A word to look for, and how it is combined with the condition before it."""

    text: str
    both: bool
    """True: combined by AND; False: by OR."""
    negated: bool


def words_of(query: str) -> Iterator[Word]:
    """Yield the words of a simple query string. Raises `InvalidFilterError` for a long one."""
    if len(query) > MAX_QUERY:
        raise InvalidFilterError(
            f"Invalid CIMI filter. More than {MAX_QUERY} characters to look for in a ==."
        )
    for operators, minus, phrase, word in _TOKEN.findall(query):
        text = phrase or word.removesuffix("*")
        if text:
            yield Word(text, "+" in operators, bool(minus))


def compile_words(query: str, has: Callable[[str], ColumnElement[bool]]) -> ColumnElement[bool]:
    """Return the condition of a query; `has` returns that of a word. No words match nothing.

    Raises `InvalidFilterError` for too many words.
    """
    words = list(words_of(query))
    if len(words) > MAX_WORDS:
        raise InvalidFilterError(f"Invalid CIMI filter. More than {MAX_WORDS} words in a ==.")
    found: ColumnElement[bool] | None = None
    for word in words:
        one: ColumnElement[bool] = func.coalesce(has(word.text), false())
        if word.negated:
            one = not_(one)
        if found is not None:
            one = and_(found, one) if word.both else or_(found, one)
        found = one
    return false() if found is None else found
