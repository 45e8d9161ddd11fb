"""Rights on resources as rows of the table `access`, by which searches are restricted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select

from job_engine.model.acl import ADMIN, Acl, Right, rights_by_principal
from job_engine.store.tables import access


def grant(connection: Connection, resource: str, acl: Acl) -> None:
    """Write the rights of a normalised ACL, for a resource without rows."""
    grant_many(connection, [(resource, acl)])


def grant_many(connection: Connection, acls: Sequence[tuple[str, Acl]]) -> None:
    """Like `grant`, for several resources."""
    rows = [
        {"principal": principal, "resource": resource, "rights": int(rights)}
        for resource, acl in acls
        for principal, rights in rights_by_principal(acl).items()
        if principal != ADMIN  # admins have every right without rows
    ]
    if rows:
        connection.execute(insert(access), rows)


def regrant(connection: Connection, resource: str, acl: Acl) -> None:
    """Replace the rights on a resource."""
    revoke(connection, access.c.resource == resource)
    grant(connection, resource, acl)


def revoke(connection: Connection, which: ColumnElement[bool]) -> None:
    """Remove the rows that match a condition on the table."""
    connection.execute(delete(access).where(which))


def allowed(
    resource: ColumnElement[Any], claims: Collection[str], right: Right
) -> ColumnElement[bool]:
    """Return the condition that one of `claims` has `right` on the resource in an id column.

    An uncorrelated sub-query, so that the database may start from a user's few rows.
    """
    held = select(access.c.resource).where(
        and_(
            access.c.principal.in_(sorted(claims)),
            access.c.rights.bitwise_and(int(right)) != 0,
        )
    )
    return resource.in_(held)
