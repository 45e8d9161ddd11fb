"""Uploads that a payload refers to have to be the creator's own.

Executors read every blob, so without this check whoever knows a digest could have
somebody else's submission graded as theirs. By convention a payload names an upload in
an attribute `blob`, as `sha256:<hex>` or `blob/<hex>`, at whatever depth.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from job_engine.api.call import Call
from job_engine.api.schema import invalid
from job_engine.errors import NotFoundError

ATTRIBUTE: Final = "blob"
_DIGEST: Final = re.compile(r"(?:sha256:|blob/)([0-9a-f]{64})")


def check_blobs(call: Call, payload: str | None) -> None:
    """Raise `InvalidResourceError` for an upload that the caller has not made.

    The same answer for one that is somebody else's and one that is nobody's: whether
    such bytes exist is not the caller's to know.
    """
    owners = None if call.who.is_admin else call.who.claims
    for name, digest in _named(payload):
        try:
            call.services.store.blobs.get(digest, owners)
        except NotFoundError:
            raise invalid(
                [f"payload: there is no upload {name} of yours; send it to /api/blob first"]
            ) from None


def _named(payload: str | None) -> Iterator[tuple[str, str]]:
    try:
        waiting: list[Any] = [json.loads(payload or "null")]
    except (ValueError, RecursionError):
        return  # no JSON: whether that will do is for the action's schema to say
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
            named = value.get(ATTRIBUTE)
            if isinstance(named, str) and (match := _DIGEST.fullmatch(named)):
                yield named, match[1]
