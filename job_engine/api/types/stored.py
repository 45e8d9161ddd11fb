"""The base class of resource types whose documents are in the generic table."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from sqlalchemy import Connection, and_

from job_engine.api.access import keep_editable, project, rights, rights_held, select
from job_engine.api.audit import record, record_stored_edit
from job_engine.api.call import Call, Reply
from job_engine.api.changes import Change, change_of
from job_engine.api.etags import etag_of, require_match, unless_known
from job_engine.api.identity import Identity
from job_engine.api.operations import Operations, common_operations
from job_engine.api.schema import MOST_PROBLEMS, PLACEHOLDER_TIMES, invalid, validate
from job_engine.api.types.base import (
    ResourceType,
    bulk_deleted,
    check,
    created,
    deleted,
    normal_acl,
)
from job_engine.model.acl import EDIT, VIEW, Right
from job_engine.store.base import Document
from job_engine.store.resources import Resource
from job_engine.store.search.query import Query, condition_of
from job_engine.store.search.source import resources_of

_SERVER_SET = ("id", "resource-type", "created", "updated", "operations")
_UNDELETABLE = frozenset({*_SERVER_SET, "acl"})


class StoredType(ResourceType):
    """A type whose documents follow one schema; `make` returns what an add stores."""

    fixed: ClassVar[frozenset[str]] = frozenset()
    """Attributes that an edit cannot change."""

    def make(self, call: Call, body: Document) -> Resource:
        """Return what an add stores; `body` has no attributes that the server sets."""
        document = {**body, "id": f"{self.name}/{uuid.uuid4()}", "created-by": call.who.creator}
        document["acl"] = self.acl(call, body.get("acl"))
        return Resource(document)

    def acl(self, call: Call, given: Any) -> Any:
        """Return the ACL of a new document: the given one, else the caller owns it."""
        return normal_acl({"owners": [call.who.active_claim]} if given is None else given)

    def offered(self) -> Callable[[Document, Right, Identity], Operations]:
        """Return the function that lists a document's operations."""
        return common_operations

    def query(self, call: Call) -> Reply:
        """Search among what the caller may see."""
        return self.query_source(call, resources_of(self.name), self.offered())

    def add(self, call: Call) -> Reply:
        """Store a new document."""
        self.require(call, self.collection.add)
        body = {k: v for k, v in call.json_object().items() if k not in _SERVER_SET}
        resource = self.make(call, body)
        self.check_schema(resource.document)
        call.services.store.resources.add(resource, record(call, "add", [resource.id]))
        return self.stored(resource)

    def stored(self, resource: Resource) -> Reply:
        """Return the answer to an add."""
        return created(resource.id)

    def get(self, call: Call, resource_id: str) -> Reply:
        """Return a document as far as the caller may see it."""
        document = call.services.store.resources.get(resource_id)
        held = rights_held(call, document)
        check(held, VIEW, resource_id)
        operations = self.offered()(document, held, call.who)
        seen = project(document, held, call.services.store.clock())
        tag = etag_of(call, seen, held)
        if operations:
            seen = {**seen, "operations": operations}
        return unless_known(call, select(seen, call.params.select), tag)

    def edit(self, call: Call, resource_id: str) -> Reply:
        """Edit a document, and return the whole of it."""
        asked = change_of(call)

        def change(before: Resource) -> Resource:
            held = rights(call.who, before.document)
            check(held, EDIT, resource_id)
            require_match(call, before.document, held)
            seen = project(before.document, held, call.services.store.clock())
            return self.edited(call, before, merged(before.document, asked(seen), held, self.fixed))

        def also(connection: Connection, before: Resource, after: Resource) -> None:
            self.on_edit(call, connection, before, after)
            record_stored_edit(call, connection, before, after)

        call.services.store.resources.edit(resource_id, change, also)
        return self.get(call, resource_id)

    def edited(self, call: Call, before: Resource, document: Document) -> Resource:
        """Return what an edit stores; `document` has the edit merged already."""
        self.check_schema(document)
        document["updated-by"] = call.who.creator
        return Resource(document, before.secret, before.key, before.expires_ms)

    def on_edit(
        self, call: Call, connection: Connection, before: Resource, after: Resource
    ) -> None:
        """Hook: do more in the transaction of an edit. By default nothing."""

    def delete(self, call: Call, resource_id: str) -> Reply:
        """Delete a document."""

        def also(connection: Connection) -> None:
            self.on_delete(call, connection, resource_id)
            record(call, "delete", [resource_id])(connection)

        call.services.store.resources.delete(resource_id, partial(may_delete, call), also)
        return deleted(resource_id)

    def on_delete(self, call: Call, connection: Connection, resource_id: str) -> None:
        """Hook: do more in the transaction of a delete. By default nothing.

        A type that overrides it cannot be deleted in bulk.
        """

    def bulk_delete(self, call: Call) -> Reply:
        """Delete the matching documents that the caller may delete, and count these alone."""
        if self.collection.bulk_delete is None:
            return super().bulk_delete(call)
        self.require_bulk(call)
        store = call.services.store
        source = resources_of(self.name)
        claims = None if call.who.is_admin else call.who.claims
        condition = condition_of(source, Query(call.params.filter, claims=claims), store.clock())
        if claims is not None:
            condition = and_(condition, source.visible(claims, Right.DELETE))
        return bulk_deleted(call, lambda: len(store.resources.delete_where(condition)))

    def check_schema(self, document: Document) -> None:
        """Raise `InvalidResourceError` unless a document satisfies the schema."""
        whole = {**document, **PLACEHOLDER_TIMES, "resource-type": self.name}
        validate(self.schema, whole, document["id"])


def may_delete(call: Call, document: Document) -> None:
    """Raise unless the caller may delete a document, in the version that `If-Match` names."""
    held = rights(call.who, document)
    check(held, Right.DELETE, document["id"])
    require_match(call, document, held)


def merged(before: Document, change: Change, held: Right, fixed: frozenset[str]) -> Document:
    """Make an edit's change to a document (docs/cimi.md §1.9)."""
    ignored = fixed | {*_SERVER_SET, "created-by"}
    kept = {k: v for k, v in keep_editable(change.body, held).items() if k not in ignored}
    removed = change.removed - _UNDELETABLE - ignored
    after = {k: v for k, v in before.items() if k not in removed} | kept
    if "acl" in kept:
        after["acl"] = normal_acl(kept["acl"])
    return after


def template_of(body: Document, allowed: frozenset[str]) -> Document:
    """Return the `template` of a templated resource. Raises `InvalidResourceError`.

    The body is `{"template": {"href": …, …}}`, with the common attributes beside it.
    """
    given = body.get("template")
    template: Document = given if isinstance(given, dict) else {}
    known = {"template", "name", "description", "tags", "parent", "acl"}
    problems = [] if isinstance(template.get("href"), str) else ["template/href: is required"]
    unknown = [f"template/{name}" for name in sorted(template.keys() - allowed - {"href"})]
    unknown += sorted(body.keys() - known)
    problems += [f"{name}: unknown attribute" for name in unknown[:MOST_PROBLEMS]]
    if problems:
        raise invalid(problems)
    return template


def text_of(template: Document, key: str) -> str:
    """Return a text of a template, empty where it is missing."""
    value = template.get(key, "")
    if not isinstance(value, str):
        raise invalid([f"template/{key}: must be a string"])
    return value


def roles_of(template: Document, call: Call) -> list[str]:
    """Return the `roles` of a template: groups that the caller is in, any for an admin."""
    roles = template.get("roles", [])
    if not isinstance(roles, list) or not all(
        isinstance(role, str) and role.startswith("group/") for role in roles
    ):
        raise invalid(["template/roles: must be a list of groups, as group/job-submitter"])
    for role in roles:
        if role not in call.who:
            raise invalid([f"template/roles: you are not in {role}"])
    return sorted(set(roles))
