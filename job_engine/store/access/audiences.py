"""Audiences: jobs with equal ACLs share one set of rows with rights.

A job names its audience by a digest of its ACL, and the rights of an audience are stored
once, however many jobs it has. So a search for a user is one for a few audiences, and the
jobs that they see can be counted without reading them (`jobs/tally.py`; decision 14).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, select, text

from job_engine.model.acl import ADMIN, Acl, AnyAcl, Right, cached_by_acl, rights_by_principal
from job_engine.store.prepared import PreparedWrite
from job_engine.store.tables import audiences, job_counts, jobs

_ADMIT: Final = PreparedWrite(
    text(
        "INSERT INTO audiences (principal, audience, rights) "
        "VALUES (:principal, :audience, :rights) ON CONFLICT DO NOTHING"
    )
)


@cached_by_acl
def audience_of(acl: AnyAcl) -> str:
    """Return the audience of a normalised ACL.

    The digest has 160 bits, so nobody can construct an ACL with the audience of another one.
    """
    written = json.dumps(acl, separators=(",", ":"), sort_keys=True).encode()
    return hashlib.blake2b(written, digest_size=20).hexdigest()


def admit(connection: Connection, acls: Mapping[str, Acl]) -> None:
    """Write the rights of audiences, given by their normalised ACLs, unless they exist."""
    known: Collection[str] = ()
    if len(acls) > 1:
        written = select(audiences.c.audience).where(audiences.c.audience.in_(acls)).distinct()
        known = set(connection.execute(written).scalars())
    rows = [
        {"principal": principal, "audience": audience, "rights": int(right)}
        for audience, acl in acls.items()
        if audience not in known
        for principal, right in rights_by_principal(acl).items()
        if principal != ADMIN  # admins have every right without rows
    ]
    _ADMIT.later(connection, rows)


def within(
    audience: ColumnElement[Any], claims: Collection[str], right: Right
) -> ColumnElement[bool]:
    """Return the condition that one of `claims` has `right` on the audience in a column."""
    held = select(audiences.c.audience).where(
        and_(
            audiences.c.principal.in_(sorted(claims)),
            audiences.c.rights.bitwise_and(int(right)) != 0,
        )
    )
    return audience.in_(held)


def unused(connection: Connection, after: str, limit: int) -> Sequence[tuple[str, bool]]:
    """Return up to `limit` audiences after one, each with whether it has no jobs."""
    some = (
        select(audiences.c.audience)
        .where(audiences.c.audience > after)
        .distinct()
        .order_by(audiences.c.audience)
        .limit(limit)
        .subquery()
    )
    has_jobs = exists().where(jobs.c.audience == some.c.audience)
    found = connection.execute(select(some.c.audience, ~has_jobs).order_by(some.c.audience))
    return [(row[0], bool(row[1])) for row in found]


def forget(connection: Connection, names: Sequence[str]) -> int:
    """Delete those of these audiences that have no jobs; return the number of rows."""
    nobodys = ~exists().where(jobs.c.audience == audiences.c.audience)
    gone = connection.execute(delete(audiences).where(audiences.c.audience.in_(names), nobodys))
    uncounted = ~exists().where(jobs.c.audience == job_counts.c.audience)
    connection.execute(delete(job_counts).where(job_counts.c.audience.in_(names), uncounted))
    return gone.rowcount
