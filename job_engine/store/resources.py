"""Documents of every type but jobs: users, sessions, credentials, assignments, ….

A row has the document, a secret that is not part of it, a key that is unique within its
type, and a time at which it is deleted. What a type means is defined in `job_engine.api.types`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    and_,
    bindparam,
    delete,
    insert,
    select,
    update,
)

from job_engine.errors import ConflictError, NotFoundError
from job_engine.model.timestamps import format_ms
from job_engine.store.access import grants as access
from job_engine.store.audit import Also, nothing
from job_engine.store.base import Clock, Database, Document, Row
from job_engine.store.prepared import PreparedRead
from job_engine.store.tables import access as access_table
from job_engine.store.tables import resources


@dataclass(frozen=True)
class Resource:
    """A document with its secret, key and time of deletion."""

    document: Document
    secret: str | None = None
    key: str | None = None
    expires_ms: int | None = None

    @property
    def id(self) -> str:
        """`<type>/<uuid>`."""
        return str(self.document["id"])


class Resources:
    """Creates, reads, edits and deletes resources, with the rows of their ACLs."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add(self, resource: Resource, also: Also = nothing) -> Document:
        """Store a new document, which has an id and a normalised ACL.

        `also` runs first. Raises `ConflictError` for an existing id or key, and what `also`
        raises.
        """

        def make(connection: Connection) -> Resource:
            also(connection)
            return resource

        return self.add_made(make)

    def add_made(self, make: Callable[[Connection], Resource]) -> Document:
        """Like `add`, with the resource that `make` returns within the transaction."""

        def unit(connection: Connection) -> Document:
            resource = make(connection)
            _refuse_taken(connection, resource)
            now_ms = self._clock()
            insert_resources(connection, [resource], now_ms)
            return _assemble(resource.document, now_ms, now_ms)

        return self._database.write(unit)

    def get(self, resource_id: str) -> Document:
        """Return a document. Raises `NotFoundError`."""
        return self.load(resource_id).document

    def load(self, resource_id: str) -> Resource:
        """Return a resource. Raises `NotFoundError`."""
        return self._database.read_one(lambda c: load_resource(c, resource_id))

    def find(self, type_name: str, key: str) -> Resource | None:
        """Return the resource of a type that has this key."""
        query = select(resources).where(resources.c.type == type_name, resources.c.key == key)
        row = self._database.read(lambda c: c.execute(query).mappings().first())
        return None if row is None else _resource(row)

    def where(self, condition: ColumnElement[bool]) -> Sequence[Resource]:
        """Return the resources that match a condition on the table."""
        return self._database.read(lambda c: find_all(c, condition))

    def edit(
        self,
        resource_id: str,
        change: Callable[[Resource], Resource],
        also: Callable[[Connection, Resource, Resource], None] = lambda *_: None,
    ) -> Document:
        """Replace a resource by what `change` returns for it. Raises what `change` raises.

        `also` is called with the document before and after.
        """

        def unit(connection: Connection) -> Document:
            before = load_resource(connection, resource_id, lock=True)
            after = change(before)
            now_ms = self._clock()
            columns = _columns(after, 0, now_ms)
            for fixed in ("id", "type", "created_ms"):
                del columns[fixed]
            if after.key != before.key:
                _refuse_taken(connection, after, but=resource_id)
            connection.execute(
                update(resources).where(resources.c.id == resource_id).values(columns)
            )
            access.regrant(connection, resource_id, after.document["acl"])
            also(connection, before, after)
            return load_resource(connection, resource_id).document

        return self._database.write(unit)

    def delete(
        self,
        resource_id: str,
        authorise: Callable[[Document], None],
        also: Also = nothing,
    ) -> None:
        """Delete a document. Raises `NotFoundError`, and what `authorise` raises."""

        def unit(connection: Connection) -> None:
            authorise(load_resource(connection, resource_id, lock=True).document)
            delete_resources(connection, resources.c.id == resource_id)
            also(connection)

        self._database.write(unit)

    def delete_where(self, condition: ColumnElement[bool]) -> Sequence[str]:
        """Delete resources that match a condition on the table; return their ids."""
        return self._database.write(lambda c: delete_resources(c, condition))

    def forget_expired(self) -> None:
        """Delete resources whose time of deletion has passed."""
        expired = resources.c.expires_ms.is_not(None) & (resources.c.expires_ms <= self._clock())
        # A read first: usually there are none, and reads do not block writers.
        if self._database.read(lambda c: c.execute(select(1).where(expired)).first()):
            self.delete_where(expired)


def insert_resources(connection: Connection, new: Sequence[Resource], now_ms: int) -> None:
    """Insert resources with unused ids and keys, and the rows of their ACLs."""
    connection.execute(insert(resources), [_columns(item, now_ms, now_ms) for item in new])
    access.grant_many(connection, [(item.id, item.document["acl"]) for item in new])


def replace_document(
    connection: Connection, document: Document, now_ms: int, expires_ms: int | None
) -> Document:
    """Replace a document for the engine itself; its ACL stays unchanged."""
    columns = _columns(Resource(document), 0, now_ms)
    changed = {"document": columns["document"], "updated_ms": now_ms, "expires_ms": expires_ms}
    here = resources.c.id == document["id"]
    connection.execute(update(resources).where(here).values(changed))
    return load_resource(connection, str(document["id"])).document


def assemble_resource(row: Row | RowMapping) -> Document:
    """Make the CIMI document of a row."""
    return _assemble(row["document"], row["created_ms"], row["updated_ms"])


def _assemble(document: Document, created_ms: int, updated_ms: int) -> Document:
    return {
        **document,
        "resource-type": str(document["id"]).partition("/")[0],
        "created": format_ms(created_ms),
        "updated": format_ms(updated_ms),
    }


def _resource(row: Row | RowMapping) -> Resource:
    return Resource(assemble_resource(row), row["secret"], row["key"], row["expires_ms"])


def _columns(resource: Resource, created_ms: int, updated_ms: int) -> dict[str, Any]:
    kept = {
        k: v
        for k, v in resource.document.items()
        if k not in ("resource-type", "created", "updated", "operations")
    }
    return {
        "id": resource.id,
        "type": resource.id.partition("/")[0],
        "key": resource.key,
        "created_ms": created_ms,
        "updated_ms": updated_ms,
        "expires_ms": resource.expires_ms,
        "document": kept,
        "secret": resource.secret,
    }


def load_resource(connection: Connection, resource_id: str, *, lock: bool = False) -> Resource:
    """Return a resource; `lock` keeps others from writing it until this transaction ends.

    Raises `NotFoundError`.
    """
    row: Row | RowMapping | None
    if lock:
        query = select(resources).where(resources.c.id == resource_id).with_for_update()
        row = connection.execute(query).mappings().first()
    else:
        row = _LOAD.by_id(connection, id=resource_id).get(resource_id)
    if row is None:
        raise NotFoundError(f"{resource_id} not found")
    return _resource(row)


_LOAD: Final = PreparedRead(select(resources).where(resources.c.id == bindparam("id")))
"""Prepared, because every request reads its session."""


def find_all(connection: Connection, condition: ColumnElement[bool]) -> Sequence[Resource]:
    """Return the resources that match a condition on the table."""
    query = select(resources).where(condition).order_by(resources.c.created_ms)
    return [_resource(row) for row in connection.execute(query).mappings()]


def hold(connection: Connection, ids: Collection[str]) -> None:
    """Lock resources against other writers until this transaction ends.

    One transaction may create something that depends on a resource while another removes
    the resource. Both lock it first, so that either the second sees what the first created,
    or the first sees that the resource is gone. SQLite has one writer, and needs no lock.
    """
    rows = select(resources.c.id).where(resources.c.id.in_(sorted(ids))).order_by(resources.c.id)
    connection.execute(rows.with_for_update()).all()


def _refuse_taken(connection: Connection, resource: Resource, but: str | None = None) -> None:
    type_name = resource.id.partition("/")[0]
    taken = resources.c.id == resource.id if but is None else resources.c.id != resources.c.id
    if resource.key is not None:
        taken = taken | and_(resources.c.type == type_name, resources.c.key == resource.key)
    found = connection.execute(select(resources.c.id).where(taken)).scalars().first()
    if found is not None and found != but:
        raise ConflictError(f"conflict with {found}")


def delete_resources(connection: Connection, condition: ColumnElement[bool]) -> Sequence[str]:
    """Delete resources that match a condition, with the rows of their ACLs; return the ids."""
    ids = connection.execute(select(resources.c.id).where(condition)).scalars().all()
    if ids:
        connection.execute(delete(resources).where(resources.c.id.in_(ids)))
        access.revoke(connection, access_table.c.resource.in_(ids))
    return ids
