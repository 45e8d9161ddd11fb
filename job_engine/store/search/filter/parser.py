"""Parsing a filter into its tree."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final, cast

from lark import Lark, Token, Transformer, v_args
from lark.exceptions import UnexpectedInput, UnexpectedToken, VisitError

from job_engine.errors import InvalidFilterError
from job_engine.store.search.filter.nodes import (
    And,
    Compare,
    DateText,
    Filter,
    Member,
    Op,
    Or,
    Value,
)

MAX_TERMS: Final = 5_000
"""Most comparisons in a filter."""
MAX_DEPTH: Final = 100
"""Most parentheses that are open at once; the database limits the depth too."""

MAX_DIGITS: Final = 300
"""Most digits of a number; one with more is greater than any stored number."""

# Strings are matched to skip their parentheses; possessive, so that none is scanned twice.
_PARENTHESIS_OR_STRING: Final = re.compile(
    r"""[()]|"(?:\\.|[^"\\])*+"?|'(?:\\.|[^'\\])*+'?""", re.DOTALL
)
_STEPS: Final = {"(": 1, ")": -1}
_OF_VALUES: Final = (
    (r"[\"']", "the quote is not closed"),
    (r"\[", "no blank may stand before a list"),
    (r"(?i:true|false|null)\b", "true, false and null have small letters"),
    (r"-[0-9]", "a number has digits only; others stand in quotes"),
    (r"[A-Za-z]", "texts and dates stand in quotes"),
)
_OF_THE_REST: Final = (
    (r"\.[0-9]", "a number has digits only; others stand in quotes"),
    (r"\.", "the steps of a path are divided by /"),
    (r"(?i:and|or)\b|&|\||[A-Za-z]", "comparisons are joined by `and` and `or`, in small letters"),
)
"""Hints for unexpected text, by a pattern: after an operator, and elsewhere."""
_TURNED: Final = {Op.LT: Op.GT, Op.GT: Op.LT, Op.LE: Op.GE, Op.GE: Op.LE}
_CONSTANTS: Final[dict[str, Value]] = {"true": True, "false": False, "null": None}


def parse_filter(text: str) -> Filter:
    """Parse one filter. Raises `InvalidFilterError` with the position of the error."""
    if "\0" in text:
        raise InvalidFilterError("Invalid CIMI filter. It has a NUL, which no document has.")
    _limit_depth(text)
    try:
        tree: Filter = _parser().parse(text)  # type: ignore[assignment]
    except UnexpectedInput as error:
        raise InvalidFilterError(_explain(text, error)) from None
    except VisitError as error:
        if isinstance(error.orig_exc, InvalidFilterError):
            raise error.orig_exc from None
        raise
    return _limited(tree)


def join_filters(filters: Sequence[Filter]) -> Filter:
    """Return the conjunction of one or more filters."""
    return _limited(_joined(And, filters))


@lru_cache(maxsize=1)
def _parser() -> Lark:
    return Lark.open(
        "grammar.lark",
        rel_to=__file__,
        parser="lalr",
        lexer="contextual",
        transformer=_ToNodes(),
    )


@v_args(inline=True)
class _ToNodes(Transformer[Token, Filter]):
    """Makes nodes while parsing, without a parse tree."""

    def any_of(self, *items: Filter) -> Filter:
        return _joined(Or, items)

    def all_of(self, *items: Filter) -> Filter:
        return _joined(And, items)

    def forward(self, attribute: Token, op: Token, value: Token) -> Filter:
        return Compare(str(attribute), Op(op), _value(value))

    def reversed(self, value: Token, op: Token, attribute: Token) -> Filter:
        forward = Op(op)
        return Compare(str(attribute), _TURNED.get(forward, forward), _value(value))

    def geo(self, attribute: Token, _relation: Token, value: Token) -> Filter:
        return Compare(str(attribute), Op.GEO, _value(value))

    def empty_forward(self, attribute: Token, op: Token) -> Filter:
        return Member(str(attribute), (), negated=op.startswith("!"))

    def list_forward(self, attribute: Token, op: Token, values: Any, *_: Token) -> Filter:
        return Member(str(attribute), values, negated=op.startswith("!"))

    def empty_reversed(self, _empty: Token, op: Token, attribute: Token) -> Filter:
        return Member(str(attribute), (), negated=op.startswith("!"))

    def list_reversed(self, _open: Token, values: Any, *rest: Token) -> Filter:
        op, attribute = rest[-2:]
        return Member(str(attribute), values, negated=op.startswith("!"))

    def elements(self, *tokens: Token) -> tuple[Value, ...]:
        for before, after in pairwise(tokens):
            touching = before.end_pos == after.start_pos
            if touching and "COMMA" not in (before.type, after.type):
                raise InvalidFilterError(
                    f"Invalid CIMI filter. Parse error at line {after.line}, column "
                    f"{after.column}: a blank or a comma has to stand between two elements"
                )
        return tuple(_value(token) for token in tokens if token.type != "COMMA")


def _value(token: Token) -> Value:
    match token.type:
        case "STRING":
            return token[1:-1]  # escapes are lexical only: backslashes stay
        case "INT":
            digits = token.lstrip("0") or "0"
            return int(digits) if len(digits) <= MAX_DIGITS else 10**MAX_DIGITS
        case "DATE":
            return DateText(token)
        case _:
            return _CONSTANTS[token]


def _joined(kind: type[And] | type[Or], items: Sequence[Filter]) -> Filter:
    """Return one group of `items`, with nested groups of the same kind flattened."""
    if len(items) == 1:
        return items[0]
    flat: list[Filter] = []
    for item in items:
        flat.extend(item.items if isinstance(item, kind) else (item,))
    return kind(tuple(flat))


def _limited(tree: Filter) -> Filter:
    if _terms(tree) > MAX_TERMS:
        raise InvalidFilterError(f"Invalid CIMI filter. More than {MAX_TERMS} comparisons.")
    return tree


def _terms(tree: Filter) -> int:
    if isinstance(tree, And | Or):
        return sum(_terms(item) for item in tree.items)
    return max(1, len(tree.values)) if isinstance(tree, Member) else 1


def _limit_depth(text: str) -> None:
    depth = 0
    for found in _PARENTHESIS_OR_STRING.finditer(text):
        depth += _STEPS.get(found[0], 0)
        if depth > MAX_DEPTH:
            raise InvalidFilterError(
                f"Invalid CIMI filter. More than {MAX_DEPTH} parentheses are open at once."
            )


def _explain(text: str, error: UnexpectedInput) -> str:
    where = "Invalid CIMI filter. Parse error at"
    at = cast(int | None, error.pos_in_stream)
    if at is None or (isinstance(error, UnexpectedToken) and error.token.type == "$END"):
        return f"{where} the end of {text[-20:]!r}: something is missing"
    line, column, rest = max(error.line, 1), max(error.column, 1), text[at:]
    hints = _OF_VALUES if text[:at].rstrip()[-1:] in tuple("=<>") else _OF_THE_REST
    hint = next((f"; {hint}" for pattern, hint in hints if re.match(pattern, rest)), "")
    return f"{where} line {line}, column {column}: not expected: {rest[:20]!r}{hint}"
