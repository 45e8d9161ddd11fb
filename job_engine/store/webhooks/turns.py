"""Whose message is sent next: creators take turns, and of a creator's the destinations do."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, func, select

from job_engine.model.webhooks import BATCH
from job_engine.store.tables import webhook_outbox as outbox

DESTINATIONS: Final = 64
"""Destinations that one batch is chosen from."""


class Turns:
    """Remembers between batches where the round goes on. Used by the store's writer alone."""

    def __init__(self) -> None:
        self._after = ""
        self._served: dict[str, str] = {}

    def choose(self, connection: Connection, now_ms: int) -> list[str]:
        """Return what to send: a round for each creator, until the batch is full.

        Of a creator's, one for each destination in turn. So a receiver that has ten thousand
        messages waiting, and does not answer, delays the others by no more than its turns;
        and so does a creator who names ten thousand receivers.
        """
        creators = _creators_after(connection, self._after)
        queues: dict[str, deque[tuple[str, list[str]]]] = {}
        served: dict[str, str] = {}
        for creator in creators:
            last, most = self._served.get(creator, ""), DESTINATIONS // len(creators)
            for destination in _destinations_after(connection, creator, last, most):
                served[creator] = destination  # where nothing is due, the next look goes on there
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
    """Return the condition of messages that no claim holds."""
    return and_(outbox.c.taken_by.is_(None), *conditions)


def _creators_after(connection: Connection, after: str) -> list[str]:
    """Return the creators that follow one, and then from the first, by hops."""
    # What comes after a blank, with which their destinations begin.
    found = _hop(connection, after + "!", lambda name: name.partition(" ")[0] + "!")
    return [name.partition(" ")[0] for name in found]


def _destinations_after(
    connection: Connection, creator: str, after: str, limit: int
) -> Sequence[str]:
    """Return a creator's destinations that follow one, and then from the first, by hops."""
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
