"""The abstract resource type: who may use its collection, and what its requests do."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from job_engine.api.audit import line
from job_engine.api.call import Call, Reply, status_map
from job_engine.api.collections import run_query
from job_engine.api.errors import (
    CREDENTIALS_REQUIRED,
    MethodNotAllowedError,
    RequestError,
    RequestForbiddenError,
    UnknownActionError,
)
from job_engine.api.identity import Identity
from job_engine.api.operations import Operations, common_operations
from job_engine.api.schema import Common, Schema, invalid
from job_engine.errors import ForbiddenError, InvalidResourceError
from job_engine.model.acl import ADMIN, ANON, USER, Acl, Right, normalise
from job_engine.store.base import Document
from job_engine.store.search.query import Page
from job_engine.store.search.source import Source

Operation = Callable[[Call, str], Reply]


@dataclass(frozen=True)
class Collection:
    """The claims that may query, add and delete in bulk; admins may do all that is possible."""

    query: tuple[str, ...] = (USER,)
    add: tuple[str, ...] | None = ()
    """None: not possible."""
    bulk_delete: tuple[str, ...] | None = None
    """None: not possible."""

    def acl(self) -> dict[str, list[str]]:
        """Return the `acl` of a collection's answer."""
        return {
            "query": list(self.query),
            "add": [ADMIN, *(self.add or ())],
            "bulk-delete": list(dict.fromkeys([ADMIN, *(self.bulk_delete or ())])),
        }


class ResourceType(ABC):
    """One type; by default nothing is possible (405)."""

    name: ClassVar[str]
    collection: ClassVar[Collection] = Collection()
    schema: ClassVar[type[Schema]] = Common
    """The schema of a document; `Common` itself allows any attribute."""
    asked: ClassVar[tuple[str, ...]] = ()
    """Attributes that an add requires."""
    refused: ClassVar[frozenset[str]] = frozenset()
    """Requests that answer 405 although the base class implements them."""

    def knows(self, request: str) -> bool:
        """Return whether a request method below, given by name, is supported (not a 405)."""
        if request == "bulk_delete" and self.collection.bulk_delete is None:
            return False
        if request == "add" and self.collection.add is None:
            return False
        known = getattr(type(self), request) is not getattr(ResourceType, request)
        return known and request not in self.refused

    # --- requests -------------------------------------------------------------

    def query(self, call: Call) -> Reply:
        """`GET` and `PUT` of the collection."""
        raise MethodNotAllowedError(call.method, call.path)

    def add(self, call: Call) -> Reply:
        """`POST` to the collection."""
        raise MethodNotAllowedError(call.method, call.path)

    def bulk_delete(self, call: Call) -> Reply:
        """`DELETE` of the collection."""
        raise MethodNotAllowedError(call.method, call.path)

    def get(self, call: Call, resource_id: str) -> Reply:
        """`GET` of one resource."""
        raise MethodNotAllowedError(call.method, call.path)

    def edit(self, call: Call, resource_id: str) -> Reply:
        """`PUT` of one resource."""
        raise MethodNotAllowedError(call.method, call.path)

    def delete(self, call: Call, resource_id: str) -> Reply:
        """`DELETE` of one resource."""
        raise MethodNotAllowedError(call.method, call.path)

    def operations(self) -> Mapping[str, Operation]:
        """Return the further operations, by name."""
        return {}

    def operate(self, call: Call, resource_id: str, name: str) -> Reply:
        """Run an operation. Raises `UnknownActionError`."""
        operation = self.operations().get(name)
        if operation is None:
            raise UnknownActionError(
                f'undefined action ({call.method.lower()}, ["{self.name}" "{name}"]) '
                f"for {call.path}",
                resource_id,
            )
        return operation(call, resource_id)

    # --- what the requests share ----------------------------------------------

    def require(self, call: Call, allowed: tuple[str, ...] | None) -> None:
        """Raise `ForbiddenError` unless the caller has one of these claims or is an admin."""
        claims = allowed or (ADMIN,)
        if ANON not in claims and not any(claim in call.who for claim in claims):
            raise RequestForbiddenError(CREDENTIALS_REQUIRED)

    def collection_reply(self, call: Call, page: Page) -> Reply:
        """Return the answer to a query."""
        body: dict[str, Any] = {"count": page.count}
        if page.aggregations is not None:
            body["aggregations"] = page.aggregations
        body |= {
            "acl": self.collection.acl(),
            "resource-type": f"{self.name}-collection",
            "id": self.name,
            "resources": list(page.documents),
        }
        operations = []
        add = self.collection.add
        if add is not None and any(claim in call.who for claim in (ADMIN, *add)):
            operations.append({"rel": "add", "href": self.name})
        bulk = self.collection.bulk_delete
        if bulk is not None and any(claim in call.who for claim in (ADMIN, *bulk)):
            operations.append({"rel": "bulk-delete", "href": self.name})
        if operations:
            body["operations"] = operations
        return Reply(body)

    def query_source(
        self,
        call: Call,
        source: Source,
        operations: Callable[[Document, Right, Identity], Operations] = common_operations,
    ) -> Reply:
        """Answer a query over a source of documents, for callers who may query."""
        self.require(call, self.collection.query)
        return self.collection_reply(call, run_query(call, source, operations))

    def require_bulk(self, call: Call) -> None:
        """Check what a bulk delete needs (docs/cimi.md §1.11), in that order."""
        if "bulk" not in call.headers:
            raise RequestError("Bulk request should contain bulk http header.")
        if not call.params.filters:
            raise RequestError("Bulk request should contain a non empty cimi filter.")
        self.require(call, (ADMIN, *(self.collection.bulk_delete or ())))


def refuse(resource_id: str) -> ForbiddenError:
    """Return the error for a missing right on a resource that exists."""
    return ForbiddenError(f"invalid credentials for '{resource_id}'")


def check(held: Right, needed: Right, resource_id: str) -> None:
    """Raise `ForbiddenError` unless one of the needed rights is held."""
    if not held & needed:
        raise refuse(resource_id)


def normal_acl(acl: Any) -> Acl:
    """Return the normal form of a request's ACL. Raises `InvalidResourceError`."""
    try:
        return normalise(acl)
    except InvalidResourceError as error:
        raise invalid([error.message]) from error


def deleted(resource_id: str) -> Reply:
    """Return the answer to a delete."""
    return status_map(200, f"{resource_id} deleted", resource_id)


def created(resource_id: str, **more: Any) -> Reply:
    """Return the answer to an add."""
    return status_map(201, f"{resource_id} created", resource_id, **more)


def bulk_deleted(call: Call, delete: Callable[[], int]) -> Reply:
    """Run `delete`, which returns a number, and return the answer to a bulk delete."""
    store = call.services.store
    began_ms = store.clock()
    count = delete()
    store.audit.record(line(call, "bulk-delete", call.path.split("/")[2], count=count))
    took_ms = store.clock() - began_ms
    return Reply({"took": took_ms, "total": count, "deleted": count, **_BULK_SUMMARY})


_BULK_SUMMARY: Final = {
    "timed_out": False,
    "batches": 1,
    "version_conflicts": 0,
    "noops": 0,
    "retries": {"bulk": 0, "search": 0},
    "throttled_millis": 0,
    "requests_per_second": -1.0,
    "throttled_until_millis": 0,
    "failures": [],
}
"""The rest of a bulk delete's answer, which clients expect (docs/cimi.md §1.11)."""
