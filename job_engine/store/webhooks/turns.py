"""Choosing messages to send: creators take turns, and each creator's destinations do."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, func, select

from job_engine.model.webhooks import BATCH
from job_engine.store.tables import webhook_outbox as outbox

DESTINATIONS: Final = 64
"""Destinations of which one batch has messages, at most."""


class Turns:
    """A round robin that continues from batch to batch; for the store's writer alone."""

    def __init__(self) -> None:
        self._after = ""
        self._served: dict[str, str] = {}

    def choose(self, connection: Connection, now_ms: int) -> list[str]:
        """Return ids of messages to send: one creator after another, until the batch is full.

        Each creator's destinations take turns too. So neither a receiver with ten thousand
        waiting messages that does not answer, nor a creator with ten thousand receivers,
        delays others by more than its turns.
        """
        creators = _creators_after(connection, self._after)
        queues: dict[str, deque[tuple[str, list[str]]]] = {}
        served: dict[str, str] = {}
        for creator in creators:
            last, most = self._served.get(creator, ""), DESTINATIONS // len(creators)
            for destination in _destinations_after(connection, creator, last, most):
                served[creator] = destination  # continue there, also if nothing was due
                here = free(outbox.c.destination == destination, outbox.c.due_ms <= now_ms)
                due = select(outbox.c.id).where(here).order_by(outbox.c.due_ms).limit(BATCH)
                if ids := list(connection.execute(due).scalars()):
                    queues.setdefault(creator, deque()).append((destination, ids[::-1]))
        self._after, self._served = (creators[-1] if creators else ""), served
        chosen: list[str] = []
        while queues:
            for creator, lines in queues.items():
                destination, ids = lines.popleft()
                chosen.append(ids.pop())
                self._after, served[creator] = creator, destination
                if ids:
                    lines.append((destination, ids))
                if len(chosen) == BATCH:
                    return chosen
            queues = {creator: lines for creator, lines in queues.items() if lines}
        return chosen


def free(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return the condition for messages that no claim holds."""
    return and_(outbox.c.taken_by.is_(None), *conditions)


def _creators_after(connection: Connection, after: str) -> list[str]:
    """Return creators after one, wrapping around, by skipping through the index."""
    # Keys are "<creator> <destination>"; this skips all destinations of a creator.
    found = _hop(connection, after + "!", lambda name: name.partition(" ")[0] + "!")
    return [name.partition(" ")[0] for name in found]


def _destinations_after(
    connection: Connection, creator: str, after: str, limit: int
) -> Sequence[str]:
    """Return a creator's destinations after one, wrapping around, by skipping through the index."""
    ours = and_(outbox.c.destination >= creator, outbox.c.destination < creator + "!")
    return _hop(connection, after, lambda name: name, max(1, limit), ours)


def _hop(
    connection: Connection,
    after: str,
    beyond: Callable[[str], str],
    limit: int = DESTINATIONS,
    among: ColumnElement[bool] | None = None,
) -> Sequence[str]:
    found: list[str] = []
    for start, end in ((after, None), ("", after)):
        last = start
        while len(found) < limit:
            query = select(func.min(outbox.c.destination))
            query = query.where(free(outbox.c.destination > last))
            if among is not None:
                query = query.where(among)
            if end is not None:
                query = query.where(outbox.c.destination <= end)
            if (name := connection.execute(query).scalar()) is None:
                break
            found.append(name)
            last = beyond(name)
    return found
