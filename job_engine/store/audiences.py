"""Who sees which jobs: jobs with the same rights for the same principals are an audience.

A job names its audience by a digest of its ACL, and the rights of an audience are written
once, however many jobs it has. So a search for somebody is one for a few audiences, and
what they see can be counted without looking at it: see `tally.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, select, text

from job_engine.model.acl import ADMIN, Acl, Right, rights_by_principal
from job_engine.store.many import Many
from job_engine.store.tables import audiences

_ADMIT: Final = Many(
    text(
        "INSERT INTO audiences (principal, audience, rights) "
        "VALUES (:principal, :audience, :rights) ON CONFLICT DO NOTHING"
    )
)


def audience_of(acl: Acl) -> str:
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
