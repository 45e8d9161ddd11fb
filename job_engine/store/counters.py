"""The incarnation counter, and secrets that are generated once."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from sqlalchemy import Connection, delete, func, insert, select, update

from job_engine.errors import InvalidResourceError
from job_engine.store.base import Clock, Database
from job_engine.store.tables import counters, jobs, secrets

_INCARNATION = "incarnation"
MAX_INCARNATION = 2**53
"""Greatest incarnation: far above any real one, and exact as a double in JSON."""


class Counters:
    """The incarnation counter, and the secrets of this installation."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def draw_incarnation(self) -> int:
        """Draw an incarnation that is greater than all earlier ones, and than all fences.

        After the store was restored from a backup, its counter lags behind what was drawn
        since the backup, and a claim of the next incarnation must be newer than claims made
        under those. They are lost with the newer store, and ZooKeeper may have lost its
        incarnation too. The clock cannot be restored, so an incarnation is never less than
        the time in epoch milliseconds. Raises `InvalidResourceError` if a fence with an
        invented incarnation leaves no greater number.
        """

        def unit(connection: Connection) -> int:
            drawn = connection.execute(
                select(counters.c.value).where(counters.c.name == _INCARNATION)
            ).scalar()
            used = connection.execute(select(func.max(jobs.c.fence_incarnation))).scalar()
            value = max(self._clock(), 1 + max(drawn or 0, used or 0))
            if value > MAX_INCARNATION:
                raise InvalidResourceError(f"A claim of incarnation {used} leaves none to draw.")
            if drawn is None:
                connection.execute(insert(counters).values(name=_INCARNATION, value=value))
            else:
                connection.execute(
                    update(counters).where(counters.c.name == _INCARNATION).values(value=value)
                )
            return value

        return self._database.write(unit)

    def secret(self, name: str, make: Callable[[], str]) -> str:
        """Return the secret of this name, made with `make` the first time."""

        def unit(connection: Connection) -> str:
            known = connection.execute(
                select(secrets.c.value).where(secrets.c.name == name)
            ).scalar()
            if known is not None:
                return str(known)
            value = make()
            connection.execute(insert(secrets).values(name=name, value=value))
            return value

        return self._database.write(unit)


def write_probe(connection: Connection) -> None:
    """Write and undo a change in one transaction, to check that the database can write.

    An empty transaction would commit even on a full disk.
    """
    name = f"probe-{uuid.uuid4().hex}"
    connection.execute(insert(counters).values(name=name, value=0))
    connection.execute(delete(counters).where(counters.c.name == name))
