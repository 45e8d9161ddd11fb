"""Assignments: names and versions of bundles that are stored as blobs.

A new version names its bundle by the digest of an uploaded blob. Executors may read the blobs
of the jobs that they run; students may not.
"""

from __future__ import annotations

import uuid
from typing import Annotated, Any, ClassVar, Final

from pydantic import Field, StringConstraints

from job_engine.api.call import Call
from job_engine.api.errors import RequestForbiddenError
from job_engine.api.identity import EXECUTOR, TEACHER
from job_engine.api.schema import Common, Given, NonBlank, Schema, invalid
from job_engine.api.types.base import Collection
from job_engine.api.types.stored import StoredType
from job_engine.errors import ArchiveError, AssignmentError, NotFoundError
from job_engine.grading.bundles import document_of
from job_engine.grading.policy import refuse_by_terms
from job_engine.model.acl import USER
from job_engine.store.base import Document
from job_engine.store.resources import Resource
from job_engine.store.tables import resources

GRADE: Final = "grade"
"""The action that grades by assignments; its executors publish a policy (`Action.terms`)."""
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


class AssignmentSchema(Common):
    """One version of an assignment."""

    name: NonBlank
    version: Annotated[int, Field(ge=1)]
    digest: Digest
    document: Annotated[dict[str, Any] | None, Given] = None


class AssignmentType(StoredType):
    """The collection `assignment`."""

    name: ClassVar[str] = "assignment"
    collection: ClassVar[Collection] = Collection(
        query=(USER, EXECUTOR), add=(TEACHER,), bulk_delete=(TEACHER,)
    )
    schema: ClassVar[type[Schema]] = AssignmentSchema
    asked: ClassVar[tuple[str, ...]] = ("name", "digest")
    # A version never changes, because jobs pin it when they are created.
    fixed: ClassVar[frozenset[str]] = frozenset({"name", "version", "digest", "document"})

    def make(self, call: Call, body: Document) -> Resource:
        """Take the next version of the name unless one is given."""
        name, digest = body.get("name"), body.get("digest")
        version = body.get("version")
        published = self._published(call, name)
        _refuse_anothers(call, name, published)
        if version is None:
            version = max((int(known["version"]) for known in published), default=0) + 1
        document = {
            **body,
            "id": f"assignment/{uuid.uuid4()}",
            "version": version,
            "created-by": call.who.creator,
            "acl": self.acl(call, body.get("acl")),
        }
        self.check_schema(document)
        _require_blob(call, str(digest))
        _require_allowed(call, str(digest))
        return Resource(document, key=f"{name}@{version}")

    def _published(self, call: Call, name: Any) -> list[Document]:
        versions = call.services.store.resources.where(
            (resources.c.type == self.name)
            & (resources.c.document["name"].as_string() == str(name))
        )
        return [found.document for found in versions]


def _refuse_anothers(call: Call, name: Any, published: list[Document]) -> None:
    """Refuse a version of another user's name, because a name means its newest version."""
    theirs = [known for known in published if known["created-by"] != call.who.creator]
    if theirs and not call.who.is_admin:
        raise RequestForbiddenError(
            f"the assignment name {name!r} is taken by another user; choose another"
        )


def _require_blob(call: Call, digest: str) -> None:
    owners = None if call.who.is_admin else call.who.claims
    try:
        call.services.store.blobs.get(digest.removeprefix("sha256:"), owners)
    except NotFoundError as error:
        raise invalid([f"digest: there is no blob {digest}; upload it first"]) from error


def _require_allowed(call: Call, digest: str) -> None:
    """Refuse what the policies published by executors would refuse later."""
    action = call.services.store.actions.get(GRADE)
    if action is None or not action.terms:
        return
    path = call.services.blob_files.path(digest.removeprefix("sha256:"))
    try:
        with path.open("rb") as bundle:
            refuse_by_terms(document_of(bundle), action.terms.values())
    except AssignmentError as error:
        raise invalid([f"digest: {line}" for line in error.message.splitlines()]) from error
    except ArchiveError:
        return  # too large to be read here; executors have their own limits
