"""Numbers that are drawn once, and secrets that are made once."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, insert, select, update

from job_engine.store.base import Database
from job_engine.store.tables import counters, secrets

_INCARNATION = "incarnation"


class Counters:
    """The incarnation counter, and the secrets of this installation."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def draw_incarnation(self, seen: int | None = None) -> int:
        """Draw an incarnation above all that were drawn, and above `seen`.

        `seen` is what ZooKeeper still knows: after the store was restored from a
        backup its counter lags, and a number must not be drawn twice.
        """

        def unit(connection: Connection) -> int:
            drawn = connection.execute(
                select(counters.c.value).where(counters.c.name == _INCARNATION)
            ).scalar()
            value = max(drawn or 0, seen or 0) + 1
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
