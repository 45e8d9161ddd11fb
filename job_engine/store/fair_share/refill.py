"""Choosing the jobs to push: as many as the window has room for, in the order of turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

from sqlalchemy import Connection, Integer, Select, bindparam, func, select

from job_engine.model.protocol.feed import FeedItem, FeedReply
from job_engine.store.fair_share.fairness import DEFAULT_WEIGHT, cost_of
from job_engine.store.fair_share.turns import Key, Lane, Queue, deal
from job_engine.store.prepared import PreparedRead
from job_engine.store.tables import is_ready, is_retrying, is_waiting, jobs, lanes, shares

ANY_VERSION: Final = 2**31 - 1
"""A version above that of every job."""
COUNTED: Final = 2000
"""Waiting entries that are counted, at most."""


class Refill:
    """One refill for a leader; `empty` has the lanes in which no job was found."""

    def __init__(self, action: str, window: int, newest_version: int) -> None:
        self.empty: list[Key] = []
        self.complete = True
        """Whether all lanes that could matter were read."""
        self._action = action
        self._window = window
        self._newest_version = newest_version
        self._chosen: list[FeedItem] = []

    def choose(self, connection: Connection) -> FeedReply:
        """Return the jobs to push, whether more wait, and when the next retry is due."""
        counted = max(self._window, COUNTED)
        asked = {"action": self._action, "newest_version": self._newest_version}
        priorities = [row[0] for row in _WAITING.all(connection, **asked, most=counted)]
        # Each turn goes to one lane, so no more lanes than the window is large can have one.
        ready = _LANES.all(connection, **asked, most=self._window + 1)
        found = [Lane(Key(*row[:4]), *row[4:]) for row in ready]
        self.complete = len(found) <= self._window
        cost_s = cost_of(connection, self._action)
        full = False
        ahead = 0  # waiting entries that are at least as urgent
        for priority, group in groupby(found, key=lambda lane: lane.key.priority):
            while ahead < len(priorities) and priorities[ahead] <= priority:
                ahead += 1
            room = self._window - ahead - len(self._chosen)
            ids = self._take(connection, list(group), room, cost_s) if room > 0 else []
            self._chosen += [FeedItem(job=id_, priority=priority) for id_ in ids]
            full = full or len(ids) >= room
        later = _DUE.scalar(connection, action=self._action)
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
                # The lane has fewer jobs than turns, so its other turns go to other lanes.
                if len(read.get(lane.key, ())) < missing.get(lane.key, 0):
                    lane.waiting = len(read[lane.key])
        self.empty += [lane.key for lane in in_turn if lane.waiting == 0]
        ids = {key: iter(found) for key, found in read.items()}
        return [next(ids[lane.key]) for lane in order]


def _next_jobs(connection: Connection, wanted: dict[Key, int]) -> dict[Key, list[str]]:
    """Return the ids of up to so many jobs of each lane, the oldest first."""
    found: dict[Key, list[str]] = {key: [] for key in wanted}
    single = [key for key, count in wanted.items() if count == 1]
    if single:
        queue: Queue = single[0].queue
        names = sorted({key.share for key in single})
        oldest = _OLDEST_OF_EACH.all(connection, **queue._asdict(), names=names)
        for share, version, id_ in oldest:
            key = Key(*queue, share, version)
            if id_ is not None and wanted.get(key) == 1:
                found[key] = [id_]
    for key, count in wanted.items():
        if count > 1:
            found[key] = [row[0] for row in _OLDEST.all(connection, **key._asdict(), most=count)]
    return found


# --- the hot statements, built once; tests read their query plans -----------------


def _ready_lanes() -> Select[Any]:
    """Return the first ready lanes of an action by priority, then by whose turn it is."""
    weight = func.coalesce(shares.c.weight, DEFAULT_WEIGHT).label("weight")
    return (
        select(*lanes.c["action", "priority", "share", "version", "virtual_s"], weight)
        .select_from(lanes.outerjoin(shares, shares.c.name == lanes.c.share))
        .where(lanes.c.ready, lanes.c.action == _action, lanes.c.version <= _newest_version)
        .order_by(lanes.c.priority, lanes.c.virtual_s, lanes.c.share, lanes.c.version)
        .limit(_most)
    )


def _oldest() -> Select[Any]:
    """Return the ids of the jobs that are next in a lane."""
    return (
        select(jobs.c.id)
        .where(is_ready(), *(jobs.c[name] == bindparam(name) for name in Key._fields))
        .order_by(jobs.c.created_ms, jobs.c.seq)
        .limit(_most)
    )


def _oldest_of_each() -> Select[Any]:
    """Return the id of the job that is next in each lane of some shares of a queue."""
    first = (
        select(jobs.c.id)
        .where(is_ready(), *(jobs.c[name] == lanes.c[name] for name in Key._fields))
        .order_by(jobs.c.created_ms, jobs.c.seq)
        .limit(1)
        .correlate(lanes)
        .scalar_subquery()
    )
    return select(lanes.c.share, lanes.c.version, first.label("id")).where(
        *(lanes.c[name] == bindparam(name) for name in Queue._fields),
        lanes.c.share.in_(bindparam("names", expanding=True)),
    )


def _most_urgent_waiting() -> Select[Any]:
    """Return the priorities of the first waiting entries, in order.

    More are not needed: a job that is less urgent than all of these finds the window full.
    """
    return (
        select(jobs.c.priority)
        .where(is_waiting(), jobs.c.action == _action, jobs.c.version <= _newest_version)
        .order_by(jobs.c.priority)
        .limit(_most)
    )


def _next_due() -> Select[Any]:
    """Return when the next retry of an action falls due."""
    return select(func.min(jobs.c.not_before_ms)).where(is_retrying(), jobs.c.action == _action)


_action: Final[Any] = bindparam("action")
_newest_version: Final[Any] = bindparam("newest_version")
_most: Final[Any] = bindparam("most", type_=Integer)

ready_lanes: Final = _ready_lanes()
oldest_in: Final = _oldest()
oldest_of_each: Final = _oldest_of_each()
most_urgent_waiting: Final = _most_urgent_waiting()
next_due: Final = _next_due()

_LANES: Final = PreparedRead(ready_lanes)
_OLDEST: Final = PreparedRead(oldest_in)
_OLDEST_OF_EACH: Final = PreparedRead(oldest_of_each, many="names")
_WAITING: Final = PreparedRead(most_urgent_waiting)
_DUE: Final = PreparedRead(next_due)
