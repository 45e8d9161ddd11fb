"""The cloud entry point: which collections there are (docs/cimi.md §1.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from job_engine.api.call import Call
from job_engine.api.operations import links
from job_engine.model.acl import ADMIN, ANON, normalise
from job_engine.model.timestamps import format_ms

ENTRY_POINT = "cloud-entry-point"


def entry_point(call: Call, type_names: Sequence[str]) -> dict[str, Any]:
    """Return the document; anybody may read it."""
    document: dict[str, Any] = {
        "id": ENTRY_POINT,
        "resource-type": ENTRY_POINT,
        "created": format_ms(0),
        "updated": format_ms(0),
        "acl": normalise({"owners": [ADMIN], "view-acl": [ANON]}),
        "base-uri": call.base_uri,
        "collections": {name: {"href": name} for name in sorted([*type_names, ENTRY_POINT])},
    }
    if call.who.is_admin:
        document["operations"] = links(ENTRY_POINT, ["edit"])
    return document
