"""Events: the audit trail, which only the API itself writes (`api/audit.py`).

A caller sees the events of resources whose data they may see, and those of their own requests.
Events of a deleted resource are visible to admins and to the user who caused them. Events
cannot be edited or deleted.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from job_engine.api.access import project, rights_found, select
from job_engine.api.call import Call, Reply
from job_engine.api.schema import Common, Given, NonBlank, Schema, Timestamp
from job_engine.api.types.base import Collection, ResourceType, refuse
from job_engine.errors import NotFoundError
from job_engine.model.acl import USER, Right
from job_engine.store.base import Document
from job_engine.store.search.source import EVENTS


class EventSchema(Common):
    """A request that changed something, or was refused."""

    timestamp: Timestamp
    category: Literal["add", "edit", "delete", "action"]
    severity: Literal["low", "medium"]
    success: bool
    content: Annotated[dict[str, Any] | None, Given] = None
    """`resource` with the `href` of the resource, and details of the operation."""
    authn_info: dict[str, Any]
    """`user-id` and `active-claim` of the caller."""
    request_id: Annotated[NonBlank | None, Given] = None


class EventType(ResourceType):
    """The collection `event`."""

    name: ClassVar[str] = "event"
    schema: ClassVar[type[Schema]] = EventSchema
    collection: ClassVar[Collection] = Collection(query=(USER,), add=None)

    def query(self, call: Call) -> Reply:
        """Search events of resources that the caller sees, and of the caller's own requests."""
        return self.query_source(call, EVENTS, lambda *_: [])

    def get(self, call: Call, resource_id: str) -> Reply:
        """Return one event."""
        document = self._visible(call, resource_id)
        seen = project(document, rights_found(call.who, document), call.services.store.clock())
        return Reply(select(seen, call.params.select))

    def _visible(self, call: Call, resource_id: str) -> Document:
        text = resource_id.partition("/")[2]
        number = int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0
        trail = call.services.store.audit
        everything = trail.find(number, None)
        if everything is None:
            raise NotFoundError(f"{resource_id} not found")
        if call.who.is_admin:
            return everything
        claims = call.who.claims if call.who.is_user else frozenset[str]()
        if trail.find(number, EVENTS.visible(claims, Right.VIEW_DATA)) is None:
            raise refuse(resource_id)
        return everything
