"""Writing the audit trail: who did what to which resource, in which request.

A line names the attributes that changed, not their values: the trail must not keep what was
removed, secrets least of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection

from job_engine.api.call import Call
from job_engine.api.identity import Identity
from job_engine.store.audit import Also, Line
from job_engine.store.base import Document
from job_engine.store.resources import Resource

_CATEGORIES: Final = {"add": "add", "edit": "edit", "delete": "delete", "bulk-delete": "delete"}
_OTHER: Final = "action"
_STAMPS: Final = frozenset({"updated", "updated-by"})


def record(call: Call, operation: str, resource_ids: Sequence[str], **content: Any) -> Also:
    """Return what adds a line for each resource when it runs in the write's transaction."""
    lines = [line(call, operation, resource_ids[0], **content)] if resource_ids else []
    lines += [Line(lines[0].name, i, call.who.user_id, lines[0].document) for i in resource_ids[1:]]

    def recorder(connection: Connection) -> None:
        call.services.store.audit.append(connection, lines)

    return recorder


def record_edit(
    call: Call, connection: Connection, before: Document, after: Document, *more: str
) -> None:
    """Add a line with the names of the attributes that an edit changed, and of `more`."""
    names = (before.keys() | after.keys()) - _STAMPS
    changed = [name for name in names if before.get(name) != after.get(name)]
    if changed or more:
        record(call, "edit", [after["id"]], attributes=sorted([*changed, *more]))(connection)


def record_stored_edit(
    call: Call, connection: Connection, before: Resource, after: Resource
) -> None:
    """Like `record_edit`; a changed secret is recorded as `password`."""
    more = ["password"] if before.secret != after.secret else []
    record_edit(call, connection, before.document, after.document, *more)


def line(
    call: Call, operation: str, resource_id: str | None, *, success: bool = True, **content: Any
) -> Line:
    """Return the line of an operation; `content` is added to it."""
    name = f"{call.path.split('/')[2]}.{operation}"
    return line_of(call.who, call.request_id, name, resource_id, success=success, **content)


def line_of(
    who: Identity,
    request_id: str | None,
    name: str,
    resource_id: str | None,
    *,
    success: bool = True,
    **content: Any,
) -> Line:
    """Like `line` where there is no `Call`; `name` is `<type>.<operation>`."""
    document: dict[str, Any] = {
        "category": _CATEGORIES.get(name.partition(".")[2], _OTHER),
        "severity": "low" if success else "medium",
        "success": success,
        "authn-info": {"active-claim": who.active_claim},
    }
    if content:
        document["content"] = content
    if request_id is not None:
        document["request-id"] = request_id
    return Line(name, resource_id, who.user_id, document)
