"""Webhooks: the secrets that sign messages, and the deliveries of messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from job_engine.api.access import project, rights
from job_engine.api.audit import line
from job_engine.api.call import Call, Reply
from job_engine.api.errors import MethodNotAllowedError
from job_engine.api.identity import SUBMITTER, Identity
from job_engine.api.operations import Operations, links
from job_engine.api.schema import Common, Given, JobHref, NonBlank, Schema, Timestamp
from job_engine.api.types.base import Collection, Operation, ResourceType, check, created
from job_engine.api.types.stored import StoredType
from job_engine.model.acl import USER, Right
from job_engine.store.base import Document
from job_engine.store.resources import Resource
from job_engine.webhooks import new_secret


class WebhookSecretType(StoredType):
    """The collection `webhook-secret`: jobs refer to one by id."""

    name: ClassVar[str] = "webhook-secret"
    collection: ClassVar[Collection] = Collection(query=(USER,), add=(SUBMITTER,))
    schema: ClassVar[type[Schema]] = Common

    def make(self, call: Call, body: Document) -> Resource:
        """Return a new secret to be stored."""
        return Resource(super().make(call, body).document, new_secret())

    def stored(self, resource: Resource) -> Reply:
        """Return the answer to an add, the only one with the secret."""
        return created(resource.id, secret=resource.secret)


class DeliverySchema(Common):
    """One message, and its attempts."""

    job: JobHref
    type: NonBlank
    url: NonBlank
    secret: NonBlank
    state: Literal["PENDING", "DELIVERED", "FAILED"]
    attempts: Annotated[int, Field(ge=0)]
    body: NonBlank
    next_attempt: Annotated[Timestamp | None, Given] = None
    error: Annotated[str | None, Given] = None
    log: Annotated[list[dict[str, Any]] | None, Given] = None


class WebhookDeliveryType(StoredType):
    """The collection `webhook-delivery`: written by the engine, read by managers of the job."""

    name: ClassVar[str] = "webhook-delivery"
    collection: ClassVar[Collection] = Collection(query=(USER,), add=None)
    schema: ClassVar[type[Schema]] = DeliverySchema
    refused: ClassVar[frozenset[str]] = frozenset({"add", "edit", "delete"})

    # Clients cannot add, edit or delete one; it is deleted a week after it has ended.
    add = ResourceType.add
    edit = ResourceType.edit
    delete = ResourceType.delete

    def offered(self) -> Callable[[Document, Right, Identity], Operations]:
        """A delivery can be sent again."""
        return _operations

    def operations(self) -> Mapping[str, Operation]:
        """Return replay."""
        return {"replay": self._replay}

    def _replay(self, call: Call, resource_id: str) -> Reply:
        if call.method != "POST":
            raise MethodNotAllowedError(call.method, call.path, ["POST"])

        def authorise(document: Document) -> None:
            check(rights(call.who, document), Right.MANAGE, resource_id)

        replayed = call.services.store.deliveries.replay(resource_id, authorise)
        call.services.store.audit.record(line(call, "replay", resource_id))
        # The right to manage a delivery does not include reading it.
        return Reply(project(replayed, rights(call.who, replayed), call.services.store.clock()))


def _operations(document: Document, held: Right, _who: Identity) -> Operations:
    return links(document["id"], ["replay"] if Right.MANAGE in held else [])
