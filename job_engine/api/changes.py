"""Parsing edits: a body to merge with attributes to remove, or a JSON Patch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from job_engine.api.call import Call, limit_depth
from job_engine.api.json_patch import apply_patch, parse_patch, same
from job_engine.api.schema import invalid
from job_engine.store.base import Document

JSON_PATCH: Final = "application/json-patch+json"


@dataclass(frozen=True)
class Change:
    """Attributes to write, and names of those to remove."""

    body: Document
    removed: frozenset[str]


def is_patch(call: Call) -> bool:
    """Return whether an edit is a JSON Patch."""
    return call.media_type == JSON_PATCH


def change_of(call: Call) -> Callable[[Document], Change]:
    """Return a function from the document as the caller sees it to the requested change.

    A patch is applied to that document, not to the stored one, so that `test` and `copy`
    reveal no hidden attribute. Raises `InvalidResourceError` for an invalid body; so does the
    returned function.
    """
    if not is_patch(call):
        change = Change(call.json_object(), call.params.select or frozenset())
        return lambda _seen: change
    steps = parse_patch(call.body)

    def patched(seen: Document) -> Change:
        try:
            after = apply_patch(seen, steps)
            limit_depth(after)
        except (RecursionError, ValueError) as error:
            raise invalid(["the patched document is nested too deep"]) from error
        written = {k: v for k, v in after.items() if k not in seen or not same(v, seen[k])}
        return Change(written, frozenset(seen.keys() - after.keys()))

    return patched
