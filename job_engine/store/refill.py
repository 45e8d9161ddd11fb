"""What to push now: as many jobs as the window has room for, each at its share's turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

from sqlalchemy import Connection, Select, func, select

from job_engine.model.protocol import FeedItem, FeedReply
from job_engine.store.fairness import DEFAULT_WEIGHT, cost_of
from job_engine.store.tables import is_ready, is_retrying, is_waiting, jobs, lanes, shares
from job_engine.store.turns import Key, Lane, Queue, deal

ANY_VERSION: Final = 2**31 - 1
"""Newer than every job."""
COUNTED: Final = 2000
"""Waiting entries that are counted, also where the window is smaller."""


class Refill:
    """One answer to a leader. `empty` tells the lanes in which nothing was found."""

    def __init__(self, action: str, window: int, newest_version: int) -> None:
        self.empty: list[Key] = []
        self.complete = True
        """Whether all the lanes that could matter were looked at."""
        self._action = action
        self._window = window
        self._newest_version = newest_version
        self._chosen: list[FeedItem] = []

    def choose(self, connection: Connection) -> FeedReply:
        """Return what to push, and what comes after it."""
        counted = max(self._window, COUNTED)
        waiting = most_urgent_waiting(self._action, self._newest_version, counted)
        priorities = connection.execute(waiting).scalars().all()
        # Each turn is taken by one lane, so lanes beyond the window have none.
        wanted = ready_lanes(self._action, self._newest_version, self._window + 1)
        found = [
            Lane(Key(row.action, row.priority, row.share, row.version), row.virtual_s, row.weight)
            for row in connection.execute(wanted)
        ]
        self.complete = len(found) <= self._window
        cost_s = cost_of(connection, self._action)
        full = False
        ahead = 0  # waiting entries that are as urgent, or more
        for priority, group in groupby(found, key=lambda lane: lane.key.priority):
            while ahead < len(priorities) and priorities[ahead] <= priority:
                ahead += 1
            room = self._window - ahead - len(self._chosen)
            ids = self._take(connection, list(group), room, cost_s) if room > 0 else []
            self._chosen += [FeedItem(job=id_, priority=priority) for id_ in ids]
            full = full or len(ids) >= room
        later = connection.execute(next_due(self._action)).scalar()
        return FeedReply(jobs=self._chosen, next_due_ms=later, more=full, waiting=len(priorities))

    def _take(
        self, connection: Connection, in_turn: Sequence[Lane], room: int, cost_s: float
    ) -> list[str]:
        """Return the ids of up to `room` jobs of one priority, in the order of their turns."""
        read: dict[Key, list[str]] = {}
        while True:
            order = deal(in_turn, room, cost_s)
            turns = Counter(lane.key for lane in order)
            missing = {key: n for key, n in turns.items() if n > len(read.get(key, ()))}
            if not missing:
                break
            read |= _next_jobs(connection, missing)
            for lane in in_turn:
                # Fewer than asked for: that is all it has, and its other turns pass on.
                if len(read.get(lane.key, ())) < missing.get(lane.key, 0):
                    lane.waiting = len(read[lane.key])
        self.empty += [lane.key for lane in in_turn if lane.waiting == 0]
        ids = {key: iter(found) for key, found in read.items()}
        return [next(ids[lane.key]) for lane in order]


def _next_jobs(connection: Connection, wanted: dict[Key, int]) -> dict[Key, list[str]]:
    """Return the ids of so many jobs of each lane, the oldest first; fewer where there are."""
    found: dict[Key, list[str]] = {key: [] for key in wanted}
    single = [key for key, count in wanted.items() if count == 1]
    if single:
        queue: Queue = single[0].queue
        names = sorted({key.share for key in single})
        for row in connection.execute(oldest_of_each(queue, names)):
            key = Key(*queue, row.share, row.version)
            if row.id is not None and wanted.get(key) == 1:
                found[key] = [row.id]
    for key, count in wanted.items():
        if count > 1:
            found[key] = list(connection.execute(oldest_in(key, count)).scalars())
    return found


# --- the hot statements; tests read their query plans ---------------------------


def ready_lanes(action: str, newest_version: int, limit: int) -> Select[Any]:
    """Return the first `limit` ready lanes of an action by priority, then by whose turn it is."""
    weight = func.coalesce(shares.c.weight, DEFAULT_WEIGHT).label("weight")
    return (
        select(*lanes.c["action", "priority", "share", "version", "virtual_s"], weight)
        .select_from(lanes.outerjoin(shares, shares.c.name == lanes.c.share))
        .where(lanes.c.ready, lanes.c.action == action, lanes.c.version <= newest_version)
        .order_by(lanes.c.priority, lanes.c.virtual_s, lanes.c.share, lanes.c.version)
        .limit(limit)
    )


def oldest_in(key: Key, limit: int) -> Select[Any]:
    """Return the ids of the jobs that are next in a lane."""
    return (
        select(jobs.c.id)
        .where(is_ready(), *(jobs.c[name] == value for name, value in key._asdict().items()))
        .order_by(jobs.c.created_ms, jobs.c.seq)
        .limit(limit)
    )


def oldest_of_each(queue: Queue, names: Sequence[str]) -> Select[Any]:
    """Return the id of the job that is next in each lane of some shares."""
    first = (
        select(jobs.c.id)
        .where(is_ready(), *(jobs.c[name] == lanes.c[name] for name in Key._fields))
        .order_by(jobs.c.created_ms, jobs.c.seq)
        .limit(1)
        .correlate(lanes)
        .scalar_subquery()
    )
    return select(lanes.c.share, lanes.c.version, first.label("id")).where(
        lanes.c.action == queue.action,
        lanes.c.priority == queue.priority,
        lanes.c.share.in_(names),
    )


def most_urgent_waiting(action: str, newest_version: int, limit: int) -> Select[Any]:
    """Return the priorities of the first `limit` waiting entries, in order.

    More of them are not needed: whatever is less urgent than all of these finds the
    window full.
    """
    return (
        select(jobs.c.priority)
        .where(is_waiting(), jobs.c.action == action, jobs.c.version <= newest_version)
        .order_by(jobs.c.priority)
        .limit(limit)
    )


def next_due(action: str) -> Select[Any]:
    """Return when the next retry of an action falls due."""
    return select(func.min(jobs.c.not_before_ms)).where(is_retrying(), jobs.c.action == action)
