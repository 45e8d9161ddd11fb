"""Who sees which jobs: jobs with the same rights for the same principals are an audience.

A job names its audience by a digest of its ACL, and the rights of an audience are written
once, however many jobs it has. So a search for somebody is one for a few audiences, and
what they see can be counted without looking at it: see `jobs/tally.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, select, text

from job_engine.model.acl import ADMIN, Acl, AnyAcl, Right, once_for_each, rights_by_principal
from job_engine.store.many import Many
from job_engine.store.tables import audiences, job_counts, jobs

_ADMIT: Final = Many(
    text(
        "INSERT INTO audiences (principal, audience, rights) "
        "VALUES (:principal, :audience, :rights) ON CONFLICT DO NOTHING"
    )
)


@once_for_each
def audience_of(acl: AnyAcl) -> str:
    """Return the audience of a normalised ACL.

    Of 160 bits: nobody finds two ACLs with the same, and so the way to somebody else's.
    """
    written = json.dumps(acl, separators=(",", ":"), sort_keys=True).encode()
    return hashlib.blake2b(written, digest_size=20).hexdigest()


def admit(connection: Connection, acls: Mapping[str, Acl]) -> None:
    """Write the rights of audiences, given with their normalised ACLs, where they are not yet."""
    known: Collection[str] = ()
    if len(acls) > 1:
        written = select(audiences.c.audience).where(audiences.c.audience.in_(acls)).distinct()
        known = set(connection.execute(written).scalars())
    rows = [
        {"principal": principal, "audience": audience, "rights": int(right)}
        for audience, acl in acls.items()
        if audience not in known
        for principal, right in rights_by_principal(acl).items()
        if principal != ADMIN  # whose rights do not come from rows
    ]
    _ADMIT.later(connection, rows)


def within(
    audience: ColumnElement[Any], claims: Collection[str], right: Right
) -> ColumnElement[bool]:
    """Say that somebody with these claims has `right` on what is of the audience in a column."""
    held = select(audiences.c.audience).where(
        and_(
            audiences.c.principal.in_(sorted(claims)),
            audiences.c.rights.bitwise_and(int(right)) != 0,
        )
    )
    return audience.in_(held)


def unused(connection: Connection, after: str, limit: int) -> Sequence[tuple[str, bool]]:
    """Return up to `limit` audiences after one, and whether no job has each."""
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
    """Forget those of these audiences that no job has, and return how many rows that were."""
    nobodys = ~exists().where(jobs.c.audience == audiences.c.audience)
    gone = connection.execute(delete(audiences).where(audiences.c.audience.in_(names), nobodys))
    uncounted = ~exists().where(jobs.c.audience == job_counts.c.audience)
    connection.execute(delete(job_counts).where(job_counts.c.audience.in_(names), uncounted))
    return gone.rowcount
