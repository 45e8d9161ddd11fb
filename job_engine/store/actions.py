"""Descriptions of actions, as executors have published them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select

from job_engine.model.protocol.actions import ActionDescription
from job_engine.store.base import Clock, Database
from job_engine.store.tables import actions

REMEMBERED_S: Final = 1.0
"""Seconds for which a description is cached, because every new job needs one. What this
process itself stores applies at once."""
_MAX_TERMS: Final = 64
"""Executors whose terms are kept for an action; the most recent ones."""
_REMEMBERED: Final = 1_000
"""Names in the cache."""


class Actions:
    """Descriptions of actions by name; a new one replaces the last, of whichever executor.

    Only `terms` are kept for each executor separately.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._clock = clock
        self._monotonic_s = monotonic_s
        self._known: dict[str, tuple[float, ActionDescription | None]] = {}
        self._generation = 0
        self._lock = threading.Lock()

    def publish(self, descriptions: Sequence[ActionDescription], *, opens: bool = False) -> None:
        """Store descriptions in place of earlier ones of the same names.

        A restricted action stays restricted unless `opens` is true: an executor's key must
        not be able to open an administrators' action to everybody.
        """
        published = {description.name: description for description in descriptions}

        def unit(connection: Connection) -> None:
            known = select(actions.c.description).where(actions.c.name.in_(list(published)))
            before = {row["name"]: row for row in connection.execute(known).scalars()}
            newest = {
                name: _over(before.get(name, {}), description, opens=opens)
                for name, description in published.items()
            }
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
        with self._lock:
            self._generation += 1
            self._known.clear()

    def all(self) -> Sequence[ActionDescription]:
        """Return every description, by name."""
        query = select(actions.c.description).order_by(actions.c.name)
        rows = self._database.read(lambda c: c.execute(query).scalars().all())
        return [ActionDescription.model_validate(row) for row in rows]

    def get(self, name: str) -> ActionDescription | None:
        """Return the description of an action, up to `REMEMBERED_S` old; None: there is none."""
        generation, now_s = self._generation, self._monotonic_s()
        until_s, known = self._known.get(name, (0.0, None))
        if now_s < until_s:
            return known
        query = select(actions.c.description).where(actions.c.name == name)
        row = self._database.read_one(lambda c: c.execute(query).scalar())
        found = None if row is None else ActionDescription.model_validate(row)
        with self._lock:
            # A description that was read before the last `publish` may be the replaced one.
            if generation == self._generation:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[name] = (now_s + REMEMBERED_S, found)
        return found


def _over(
    before: Mapping[str, Any], description: ActionDescription, *, opens: bool
) -> ActionDescription:
    """Return the description to store in place of an earlier one."""
    others = {k: v for k, v in before.get("terms", {}).items() if k not in description.terms}
    terms = list({**others, **description.terms}.items())[-_MAX_TERMS:]
    restricted = description.restricted or (bool(before.get("restricted")) and not opens)
    return description.model_copy(update={"terms": dict(terms), "restricted": restricted})
