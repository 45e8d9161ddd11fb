"""Uploads: who uploaded which bytes. The bytes are files, named by their SHA-256.

There is one row for each owner and digest, so that two people who upload the same bytes do
not learn of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from sqlalchemy import Connection, RowMapping, delete, func, insert, select

from job_engine.errors import ForbiddenError, NotFoundError
from job_engine.model.acl import normalise
from job_engine.model.timestamps import format_ms
from job_engine.store.base import Clock, Database, Document
from job_engine.store.tables import blobs


class Blobs:
    """The rows of uploads, kept consistent with the directory of files."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add(
        self,
        digest: str,
        owner: str,
        size: int,
        media_type: str,
        name: str | None,
        place: Callable[[], None],
        quota_bytes: int | None = None,
    ) -> None:
        """Record an upload; `place` puts the file where it belongs.

        It is called in the transaction, so that a file cannot be placed while its last row
        is deleted. Repeating an upload changes nothing. Raises `ForbiddenError` if the
        owner's uploads would exceed `quota_bytes`.
        """

        def unit(connection: Connection) -> None:
            known = select(blobs.c.digest).where(blobs.c.digest == digest, blobs.c.owner == owner)
            is_new = connection.execute(known).first() is None
            if is_new and quota_bytes is not None:
                _refuse_more(connection, owner, size, quota_bytes)
            place()
            if is_new:
                connection.execute(
                    insert(blobs).values(
                        digest=digest,
                        owner=owner,
                        size=size,
                        media_type=media_type,
                        name=name,
                        created_ms=self._clock(),
                    )
                )

        self._database.write(unit)

    def get(self, digest: str, owners: Collection[str] | None) -> Document:
        """Return the oldest upload of these bytes by one of `owners`; None: by any owner.

        Raises `NotFoundError` where there is none.
        """
        query = select(blobs).where(blobs.c.digest == digest)
        if owners is not None:
            query = query.where(blobs.c.owner.in_(sorted(owners)))
        query = query.order_by(blobs.c.created_ms, blobs.c.owner).limit(1)
        row = self._database.read(lambda c: c.execute(query).mappings().first())
        if row is None:
            raise NotFoundError(f"blob/{digest} not found")
        return assemble_blob(row)

    def delete(
        self,
        digest: str,
        owner: str,
        authorise: Callable[[Connection], None],
        remove: Callable[[], None],
    ) -> None:
        """Delete one owner's upload; for the last owner, `remove` deletes the file."""

        def unit(connection: Connection) -> None:
            authorise(connection)
            connection.execute(
                delete(blobs).where(blobs.c.digest == digest, blobs.c.owner == owner)
            )
            left = select(blobs.c.digest).where(blobs.c.digest == digest).limit(1)
            if connection.execute(left).first() is None:
                remove()

        self._database.write(unit)


def _refuse_more(connection: Connection, owner: str, size: int, quota_bytes: int) -> None:
    of_theirs = select(func.coalesce(func.sum(blobs.c.size), 0)).where(blobs.c.owner == owner)
    used = int(connection.execute(of_theirs).scalar_one())
    if used + size > quota_bytes:
        raise ForbiddenError(
            f"the uploads of {owner} would take {used + size} bytes, and may take {quota_bytes}: "
            "delete some first, or ask the operator to set blob_quota_bytes"
        )


def assemble_blob(row: RowMapping) -> Document:
    """Make the CIMI document of a row."""
    document: Document = {
        "id": f"blob/{row['digest']}",
        "resource-type": "blob",
        "created": format_ms(row["created_ms"]),
        "updated": format_ms(row["created_ms"]),
        "created-by": row["owner"],
        "digest": f"sha256:{row['digest']}",
        "size": row["size"],
        "media-type": row["media_type"],
        "acl": normalise({"owners": [row["owner"]]}),
    }
    if row["name"] is not None:
        document["name"] = row["name"]
    return document
