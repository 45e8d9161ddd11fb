"""What an edit asks for: a body to merge and attributes to remove, or a JSON Patch."""

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
    """Whether an edit comes as a JSON Patch."""
    return call.media_type == JSON_PATCH


def change_of(call: Call) -> Callable[[Document], Change]:
    """Return what tells the change that an edit asks for, of what its sender sees.

    A patch is of what they see, so that a `test` or a `copy` tells them no more than that.
    Raises `InvalidResourceError` for a body that is no edit; so does what it returns.
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
