"""Groups: members may act as their group, and have the rights that ACLs give to it.

Only admins create groups. A caller with `edit-data` on a group may change its members. The
built-in groups always exist and cannot be deleted.
"""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Final

from pydantic import AfterValidator, StringConstraints
from sqlalchemy import Connection

from job_engine.api.audit import record
from job_engine.api.auth.revocation import revoke_group, revoke_groups
from job_engine.api.call import Call, Reply
from job_engine.api.errors import RequestError
from job_engine.api.identity import (
    DISTRIBUTOR,
    EVERYBODY,
    EXECUTOR,
    NUVLABOX,
    STUDENT,
    SUBMITTER,
    TEACHER,
)
from job_engine.api.schema import Common, Schema, distinct, invalid
from job_engine.api.types.base import Collection, created, normal_acl
from job_engine.api.types.stored import StoredType, template_of, text_of
from job_engine.errors import ConflictError, NotFoundError
from job_engine.model.acl import ADMIN, ANON, USER
from job_engine.store.base import Document
from job_engine.store.resources import Resource, find_all
from job_engine.store.search.filter.nodes import Compare, Op
from job_engine.store.search.query import Query, condition_of
from job_engine.store.search.source import resources_of

_TEMPLATE: Final = "group-template/generic"
_IDENTIFIER: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_RESERVED: Final = "nuvla-"
_MAX_IDENTIFIER: Final = 100

BUILT_IN: Final = {
    ADMIN: "Everything, everywhere.",
    USER: "Everybody who logged in.",
    ANON: "Everybody.",
    NUVLABOX: "Nuvla's edge devices.",
    SUBMITTER: "Create jobs, and see all of their own.",
    STUDENT: "Hand in their own work, and see what is shown of its results.",
    TEACHER: "Publish assignments.",
    EXECUTOR: "Claim jobs, and report on them.",
    DISTRIBUTOR: "Push jobs into the queue.",
}

_User = Annotated[str, StringConstraints(pattern=r"^user/[a-z0-9-]+$")]


class GroupSchema(Common):
    """A group; `users` are its members."""

    users: Annotated[list[_User], AfterValidator(distinct)]


class GroupType(StoredType):
    """The collection `group`."""

    name: ClassVar[str] = "group"
    collection: ClassVar[Collection] = Collection(query=(USER,))
    schema: ClassVar[type[Schema]] = GroupSchema

    def add(self, call: Call) -> Reply:
        """Create `group/<identifier>` from `{"template": {"href": …, "group-identifier": …}}`."""
        self.require(call, self.collection.add)
        body = call.json_object()
        template = template_of(body, frozenset({"group-identifier", "users"}))
        if template["href"] != _TEMPLATE:
            raise NotFoundError(f"{template['href']} not found")
        identifier = text_of(template, "group-identifier")
        _check_identifier(identifier)
        document = group_document(f"group/{identifier}", template.get("users", []))
        document |= {k: v for k, v in body.items() if k != "template"}
        document["acl"] = normal_acl(document["acl"])
        document["created-by"] = call.who.creator
        self.check_schema(document)
        resource = Resource(document)
        call.services.store.resources.add(resource, record(call, "add", [resource.id]))
        return created(resource.id)

    def edited(self, call: Call, before: Resource, document: Document) -> Resource:
        """Refuse members for the groups that contain everybody."""
        if before.id in EVERYBODY and document.get("users"):
            raise RequestError(f"{before.id} has no members: it is everybody", before.id)
        return super().edited(call, before, document)

    def edit(self, call: Call, resource_id: str) -> Reply:
        """Edit a group; sessions and keys of former members end."""
        reply = super().edit(call, resource_id)
        call.services.sessions.changed()
        return reply

    def on_edit(
        self, call: Call, connection: Connection, before: Resource, after: Resource
    ) -> None:
        """End the sessions and keys of former members."""
        for user in set(before.document["users"]) - set(after.document["users"]):
            revoke_groups(connection, user, [after.id])

    def delete(self, call: Call, resource_id: str) -> Reply:
        """Delete a group, and the sessions and keys that depend on it."""
        if resource_id in BUILT_IN:
            self.require(call, ())
            raise ConflictError(f"{resource_id} is the engine's own, and stays")
        reply = super().delete(call, resource_id)
        call.services.sessions.changed()
        return reply

    def on_delete(self, call: Call, connection: Connection, resource_id: str) -> None:
        """End the sessions and keys that depend on the group."""
        revoke_group(connection, resource_id)


def group_document(group: str, users: object = ()) -> Document:
    """Return the document of a group, which its members may see."""
    return {
        "id": group,
        "name": group.partition("/")[2],
        "users": users,
        "acl": normal_acl({"owners": [ADMIN], "view-data": [group]}),
    }


def groups_of(connection: Connection, user: str) -> list[Resource]:
    """Return the groups that a user is a member of, sorted by id."""
    member = condition_of(resources_of("group"), Query(Compare("users", Op.EQ, user)), now_ms=0)
    return sorted(find_all(connection, member), key=lambda group: group.id)


def _check_identifier(identifier: str) -> None:
    if not _IDENTIFIER.fullmatch(identifier) or len(identifier) > _MAX_IDENTIFIER:
        raise invalid(["template/group-identifier: lower-case letters, digits and single dashes"])
    if identifier.startswith(_RESERVED):
        raise invalid([f"template/group-identifier: names that begin with {_RESERVED} are taken"])
