"""Blobs: uploaded files. `routes/blobs.py` moves their bytes.

Each owner has a row of their own: identical content uploaded by another user is
neither revealed nor granted. Admins read them all, executors what their jobs refer to.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from sqlalchemy import Connection, select

from job_engine.api.access import is_in_executor_scope, project, rights
from job_engine.api.access import select as select_attributes
from job_engine.api.audit import record
from job_engine.api.call import Call, Reply
from job_engine.api.etags import etag_of, require_match, unless_known
from job_engine.api.identity import EXECUTOR, Identity
from job_engine.api.operations import Operations, links
from job_engine.api.schema import Common, Schema
from job_engine.api.types.base import Collection, ResourceType, deleted, refuse
from job_engine.errors import ConflictError, NotFoundError
from job_engine.model.acl import USER, Right
from job_engine.store.base import Document
from job_engine.store.search.source import BLOBS
from job_engine.store.tables import resources


class BlobSchema(Common):
    """What is known of an upload."""

    digest: str
    size: Annotated[int, Field(ge=1)]
    media_type: str


class BlobType(ResourceType):
    """The collection `blob`; its `add` is the upload of `routes/blobs.py`."""

    name: ClassVar[str] = "blob"
    collection: ClassVar[Collection] = Collection(query=(USER,), add=(USER,))
    schema: ClassVar[type[Schema]] = BlobSchema

    def knows(self, request: str) -> bool:
        """Uploads are added too, by a route of their own."""
        return request == "add" or super().knows(request)

    def query(self, call: Call) -> Reply:
        """Search among one's own uploads; admins among all."""
        return self.query_source(call, BLOBS, blob_operations)

    def get(self, call: Call, resource_id: str) -> Reply:
        """Return the metadata of one's upload."""
        document = visible_blob(call, resource_id)
        held = rights(call.who, document)
        operations = blob_operations(document, held, call.who)
        seen = select_attributes({**document, "operations": operations}, call.params.select)
        tag = etag_of(call, project(document, held, call.services.store.clock()), held)
        return unless_known(call, seen, tag)

    def delete(self, call: Call, resource_id: str) -> Reply:
        """Delete one's upload; the bytes are deleted with the last owner's."""
        document = visible_blob(call, resource_id)
        owner = str(document["created-by"])
        if owner not in call.who:
            raise refuse(resource_id)
        require_match(call, document, rights(call.who, document))
        digest = resource_id.partition("/")[2]

        def authorise(connection: Connection) -> None:
            used = select(resources.c.id).where(
                resources.c.type == "assignment",
                resources.c.document["digest"].as_string() == f"sha256:{digest}",
            )
            found = connection.execute(used.limit(1)).scalar()
            if found is not None:
                raise ConflictError(f"{resource_id} is the bundle of {found}; delete that first")
            record(call, "delete", [resource_id])(connection)

        files = call.services.blob_files
        call.services.store.blobs.delete(digest, owner, authorise, lambda: files.remove(digest))
        return deleted(resource_id)


def visible_blob(call: Call, resource_id: str) -> Document:
    """Return the upload that the caller may read.

    Raises `NotFoundError`, also for another user's upload, so that it does not reveal that the
    bytes exist, and `ForbiddenError` for anonymous callers.
    """
    if not call.who.is_user and EXECUTOR not in call.who:
        raise refuse(resource_id)
    digest = resource_id.partition("/")[2]
    everybodys = call.who.is_admin or is_in_executor_scope(call, resource_id)
    owners = None if everybodys else call.who.claims
    try:
        return call.services.store.blobs.get(digest, owners)
    except NotFoundError:
        raise NotFoundError(f"{resource_id} not found") from None


def blob_operations(document: Document, held: Right, _who: Identity) -> Operations:
    """Return a blob's operations."""
    names = ["delete"] if Right.DELETE in held else []
    return [*links(document["id"], names), *links(document["id"], ["content"])]
