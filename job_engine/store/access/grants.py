"""Who may do what, as rows: the part of access control that queries are narrowed by."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select

from job_engine.model.acl import ADMIN, Acl, Right, rights_by_principal
from job_engine.store.tables import access


def grant(connection: Connection, resource: str, acl: Acl) -> None:
    """Write what a normalised ACL gives, for a resource that has no rows yet."""
    grant_many(connection, [(resource, acl)])


def grant_many(connection: Connection, acls: Sequence[tuple[str, Acl]]) -> None:
    """`grant`, for several resources at once."""
    rows = [
        {"principal": principal, "resource": resource, "rights": int(rights)}
        for resource, acl in acls
        for principal, rights in rights_by_principal(acl).items()
        if principal != ADMIN  # whose rights do not come from rows
    ]
    if rows:
        connection.execute(insert(access), rows)


def regrant(connection: Connection, resource: str, acl: Acl) -> None:
    """Replace what was written for a resource."""
    revoke(connection, access.c.resource == resource)
    grant(connection, resource, acl)


def revoke(connection: Connection, which: ColumnElement[bool]) -> None:
    """Remove the rows that match a condition on the table."""
    connection.execute(delete(access).where(which))


def allowed(
    resource: ColumnElement[Any], claims: Collection[str], right: Right
) -> ColumnElement[bool]:
    """Say that somebody with these claims has `right` on the resource of that id column.

    A sub-query that stands alone, so that a plain user's few rows can lead the search.
    """
    held = select(access.c.resource).where(
        and_(
            access.c.principal.in_(sorted(claims)),
            access.c.rights.bitwise_and(int(right)) != 0,
        )
    )
    return resource.in_(held)
