"""What executors told of their actions."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, select

from job_engine.model.protocol import ActionDescription
from job_engine.store.base import Clock, Database
from job_engine.store.tables import actions


class Actions:
    """Descriptions of actions, by name; the newest word on each counts."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def publish(self, descriptions: Sequence[ActionDescription]) -> None:
        """Store descriptions, over what was known of the same names."""
        newest = {description.name: description for description in descriptions}

        def unit(connection: Connection) -> None:
            connection.execute(delete(actions).where(actions.c.name.in_(list(newest))))
            if newest:
                connection.execute(
                    insert(actions),
                    [
                        {
                            "name": name,
                            "description": description.model_dump(mode="json"),
                            "updated_ms": self._clock(),
                        }
                        for name, description in newest.items()
                    ],
                )

        self._database.write(unit)

    def all(self) -> Sequence[ActionDescription]:
        """Return every description, by name."""
        query = select(actions.c.description).order_by(actions.c.name)
        rows = self._database.read(lambda c: c.execute(query).scalars().all())
        return [ActionDescription.model_validate(row) for row in rows]

    def get(self, name: str) -> ActionDescription | None:
        """Return what is known of one action."""
        query = select(actions.c.description).where(actions.c.name == name)
        row = self._database.read(lambda c: c.execute(query).scalar())
        return None if row is None else ActionDescription.model_validate(row)
