"""Malformed requests, drawn from a seed: which of them get an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from tests.hostile.http import bodies, heads


@dataclass(frozen=True)
class Malformed:
    """What is sent; `speaks` is whether it is HTTP enough to deserve an answer."""

    kind: str
    data: bytes
    speaks: bool = True


ANSWERED: Final[Sequence[Callable[[Random], bytes]]] = (
    bodies.truncated_json,
    bodies.not_json,
    bodies.no_object,
    bodies.wrong_types,
    bodies.wrong_bulk,
    bodies.wrong_messages,
    bodies.wrong_login,
    bodies.deep,
    bodies.nul_bytes,
    bodies.bad_encodings,
    heads.announced,
    bodies.bad_chunks,
    heads.bad_length,
    heads.two_lengths,
    heads.twice,
    bodies.bad_gzip,
    bodies.unknown_encoding,
    bodies.bad_multipart,
    heads.bad_percent,
    heads.absurd_query,
    heads.no_such_thing,
    heads.bad_method,
    heads.bad_version,
    heads.bad_target,
    heads.bad_header,
    heads.no_host,
    heads.bad_key,
    heads.other_media,
    heads.bad_cookie,
    heads.upgrade,
)
UNANSWERED: Final[Sequence[Callable[[Random], bytes]]] = (
    bodies.huge_body,
    bodies.huge_chunks,
    heads.header_flood,
    heads.long_target,
    heads.old_http,
    bodies.garbage,
    bodies.half,
)
"""What may be cut off: it is still being sent when it is refused, or it is not HTTP."""


def draw(seed: int, number: int) -> Malformed:
    """Draw a request; the same numbers draw the same again."""
    random = Random(f"{seed}/{number}")
    kinds = (*ANSWERED, *UNANSWERED)
    kind = kinds[number % len(kinds)]
    return Malformed(kind.__name__, kind(random), speaks=kind in ANSWERED)
