"""Events: one for each creation, change of state and deletion of a job.

They are written in the transaction of the change. Ids become visible in increasing order,
because the transactions that draw them commit in that order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import BigInteger, Connection, RowMapping, bindparam, delete, func, insert, select

from job_engine.model import FINAL_STATES, JobState
from job_engine.model.protocol.events import CancelledEntry, Changes, JobEvent, NewJob
from job_engine.store.base import EVENTS_TOPIC, Database, Row, announce
from job_engine.store.prepared import PreparedRead, PreparedWrite
from job_engine.store.tables import events, inline, is_ready, jobs

KEPT: Final = 100_000
"""Events that are kept, and can be resumed from; older ones are deleted."""
_TRIM_EVERY: Final = 1024
FEW: Final = 16
"""New jobs that a summary for leaders lists individually, at most."""


_NEWEST: Final = PreparedRead(select(func.max(events.c.id)))
_APPEND: Final = PreparedWrite(
    insert(events), ("at_ms", "job", "action", "state", "priority", "entry")
)
_TRIM: Final = PreparedWrite(
    delete(events).where(
        events.c.id
        <= select(func.max(events.c.id)).scalar_subquery() - bindparam("kept", type_=BigInteger)
    )
)

_new: Final = events.c.id > bindparam("after")
_KINDS: Final = PreparedRead(
    select(*events.c["action", "state"], func.count().label("many"))
    .where(_new)
    .group_by(events.c.action, events.c.state)
)
_LEFT: Final = PreparedRead(
    select(*events.c["action", "entry"]).where(
        _new,
        events.c.state.in_([inline(state) for state in sorted(FINAL_STATES)]),
        events.c.entry.is_not(None),
    )
)
"""Queue entries of jobs that were cancelled, deleted, expired, or ended by a client."""
_BECAME: Final = PreparedRead(
    select(jobs.c.id.label("job"), *jobs.c["action", "priority", "version"])
    .where(is_ready(), jobs.c.id == events.c.job, _new, events.c.state == inline("QUEUED"))
    .order_by(events.c.id)
)


@dataclass(frozen=True)
class StoredEvent:
    """An event with its id."""

    id: int
    event: JobEvent


@dataclass(frozen=True)
class EventPage:
    """Events in the order of their ids."""

    events: Sequence[StoredEvent]
    upto: int
    """The last id that was considered; the next page begins after it."""
    more: bool
    """Whether the page was full, so that there may be more already."""


@dataclass(frozen=True)
class ChangePage:
    """A summary of what happened after an event."""

    changes: Changes
    upto: int
    """The last id that is included."""


def append(
    connection: Connection, at_ms: int, row: Row, state: JobState, entry: str | None
) -> None:
    """Add the event of a job that changes to `state`, with its queue entry."""
    append_many(connection, at_ms, [{**row, "state": state, "entry": entry}])


def append_many(connection: Connection, at_ms: int, rows: Sequence[Row]) -> None:
    """Add the events of jobs with these new rows, in order."""
    if not rows:
        return
    _APPEND.later(
        connection,
        [
            {
                "at_ms": at_ms,
                "job": row["id"],
                "action": row["action"],
                "state": str(row["state"]),
                "priority": row["priority"],
                "entry": row["entry"],
            }
            for row in rows
        ],
    )
    # Trimming at a connection's first event and then now and then: each time would cost more.
    untrimmed = connection.info.get("untrimmed", _TRIM_EVERY) + len(rows)
    if untrimmed >= _TRIM_EVERY:
        _TRIM.later(connection, [{"kept": KEPT}])
        untrimmed = 0
    connection.info["untrimmed"] = untrimmed
    for state in {row["state"] for row in rows}:
        announce(connection, EVENTS_TOPIC + state)


def newest_id(connection: Connection) -> int:
    """Return the id of the newest event; 0: there is none."""
    return _NEWEST.scalar(connection) or 0


class Events:
    """Reads events."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def newest(self) -> int:
        """Return the id of the newest event; 0: there is none."""
        return self._database.read(newest_id)

    def after(
        self,
        event_id: int,
        *,
        actions: Collection[str] = (),
        states: Collection[str] = (),
        limit: int = 500,
    ) -> EventPage:
        """Return up to `limit` events after an id; an empty filter matches all."""
        query = select(events).where(events.c.id > event_id).order_by(events.c.id).limit(limit)
        if actions:
            query = query.where(events.c.action.in_(actions))
        if states:
            query = query.where(events.c.state.in_(states))

        def unit(connection: Connection) -> tuple[int, Sequence[RowMapping]]:
            return newest_id(connection), connection.execute(query).mappings().all()

        newest, rows = self._database.read(unit)
        found = [StoredEvent(row["id"], _event(row)) for row in rows]
        if len(found) == limit:
            return EventPage(found, found[-1].id, more=True)
        # Events that the filters left out are not read again with the next page.
        return EventPage(found, max(event_id, newest), more=False)

    def changes(self, event_id: int) -> ChangePage:
        """Return a summary of all events after an id."""

        def unit(connection: Connection) -> ChangePage:
            found = _KINDS.all(connection, after=event_id)
            queued = {action: many for action, state, many in found if state == JobState.QUEUED}
            few = queued and sum(queued.values()) <= FEW
            became = _BECAME.all(connection, after=event_id) if few else []
            listed = Counter(action for _, action, _, _ in became)
            changes = Changes(
                waiting=sorted(queued),
                moving=sorted({action for action, state, _ in found if state == JobState.RUNNING}),
                cancelled=[
                    CancelledEntry(action=action, entry=entry)
                    for action, entry in _LEFT.all(connection, after=event_id)
                ],
                # All new jobs of an action or none: a leader must not miss the rest.
                new=[
                    NewJob(job=job, action=action, priority=priority, version=version)
                    for job, action, priority, version in became
                    if listed[action] == queued[action]
                ],
            )
            return ChangePage(changes, max(event_id, newest_id(connection)))

        return self._database.read(unit)


def _event(row: RowMapping) -> JobEvent:
    return JobEvent(
        job=row["job"],
        action=row["action"],
        state=JobState(row["state"]),
        priority=row["priority"],
        entry=row["entry"],
    )
