"""The weights of shares, which divide a queue's turns among them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, insert, select, update

from job_engine.model.protocol.feed import Share, SharesReply
from job_engine.store.base import Database
from job_engine.store.tables import shares

PAGE: Final = 1000
"""Shares in a page."""


class Shares:
    """Weights of shares; a share without one has the weight 1.

    The feed reads them whenever it deals out turns, so a new weight applies to waiting jobs.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, after: str | None = None, limit: int = PAGE) -> SharesReply:
        """Return a page of shares that have a weight of their own, by name."""
        query = select(shares).order_by(shares.c.name).limit(limit)
        if after is not None:
            query = query.where(shares.c.name > after)
        rows = self._database.read(lambda c: c.execute(query).all())
        found = [Share(name=row.name, weight=row.weight) for row in rows]
        return SharesReply(shares=found, next=found[-1].name if len(found) == limit else None)

    def set_weight(self, share: Share) -> None:
        """Give a share its weight."""

        def unit(connection: Connection) -> None:
            values = {"weight": share.weight}
            changed = update(shares).where(shares.c.name == share.name).values(values)
            if connection.execute(changed).rowcount == 0:
                connection.execute(insert(shares).values(name=share.name, **values))

        self._database.write(unit)
