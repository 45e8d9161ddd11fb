"""The cloud entry point, which lists the collections (docs/cimi.md §1.3)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Final

from job_engine.api.audit import record_stored_edit
from job_engine.api.call import Call, Reply
from job_engine.api.changes import change_of
from job_engine.api.operations import links
from job_engine.api.schema import Given, NonBlank, Schema, validate
from job_engine.api.types.base import refuse
from job_engine.errors import ConflictError, NotFoundError
from job_engine.model.acl import ADMIN, ANON, normalise
from job_engine.model.timestamps import format_ms
from job_engine.store.base import Document
from job_engine.store.resources import Resource

ENTRY_POINT: Final = "cloud-entry-point"


class _EditableAttributes(Schema):
    """Attributes that an admin may edit."""

    name: Annotated[NonBlank | None, Given] = None
    description: Annotated[str | None, Given] = None


def entry_point(call: Call, type_names: Sequence[str]) -> Reply:
    """Return the document, which needs no login."""
    try:
        stored = call.services.store.resources.get(ENTRY_POINT)
    except NotFoundError:
        never = format_ms(0)
        stored = {**_first(), "resource-type": ENTRY_POINT, "created": never, "updated": never}
    document: dict[str, Any] = {
        **stored,
        "base-uri": call.base_uri,
        "collections": {name: {"href": name} for name in sorted([*type_names, ENTRY_POINT])},
    }
    if call.who.is_admin:
        document["operations"] = links(ENTRY_POINT, ["edit"])
    return Reply(document)


def edit_entry_point(call: Call, type_names: Sequence[str]) -> Reply:
    """Edit its name and description, for admins; other attributes cannot be changed."""
    if not call.who.is_admin:
        raise refuse(ENTRY_POINT)
    asked = change_of(call)

    def change(before: Resource) -> Resource:
        editable = _EditableAttributes.model_fields.keys()
        change = asked(before.document)
        kept = {
            k: v for k, v in before.document.items() if k not in editable or k not in change.removed
        }
        written = {k: v for k, v in change.body.items() if k in editable}
        validate(_EditableAttributes, written, ENTRY_POINT)
        return replace(before, document={**kept, **written, "updated-by": call.who.creator})

    store = call.services.store.resources
    with suppress(ConflictError):  # stored already
        store.add(Resource(_first()))
    store.edit(ENTRY_POINT, change, partial(record_stored_edit, call))
    return entry_point(call, type_names)


def _first() -> Document:
    return {"id": ENTRY_POINT, "acl": normalise({"owners": [ADMIN], "view-acl": [ANON]})}
