"""Spans of time: cutting, joining and measuring them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Span = tuple[float, float]
"""From, to; monotonic seconds."""


def cut(spans: Iterable[Span], others: Iterable[Span]) -> list[Span]:
    """What the two have in common; each of them without overlaps of its own."""
    others = list(others)
    common = [(max(a, c), min(b, d)) for a, b in spans for c, d in others]
    return [(a, b) for a, b in common if a < b]


def minus(spans: Iterable[Span], others: Iterable[Span]) -> list[Span]:
    """What is left of `spans` outside of all `others`."""
    left = list(spans)
    for c, d in others:
        left = [
            piece
            for a, b in left
            for piece in ((a, min(b, c)), (max(a, d), b))
            if piece[0] < piece[1]
        ]
    return left


def total(spans: Sequence[Span]) -> float:
    """Seconds of all of them together."""
    return sum(b - a for a, b in spans)


def touch(one: Span, other: Span) -> bool:
    """Whether two spans have a moment in common."""
    return one[0] <= other[1] and other[0] <= one[1]
