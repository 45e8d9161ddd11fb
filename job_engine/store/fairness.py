"""Fair share: whose turn it is among those who wait for the same action at the same priority.

Each share (a job's `parent`, else who created it) has a virtual time in such a queue: the
thread seconds that it was given there, over its weight. Whoever has the smallest is next.
A job is charged with its action's cost when it is fed, and with the difference when it is
known how long it really took. A share that had nothing waiting joins where the others
are, so nobody saves turns up by being idle (start-time fair queueing; Goyal, Vin and
Cheng, "Start-time Fair Queuing", SIGCOMM 1996).

The table `lanes` holds the virtual times: every ready job has the lane of its action,
priority, share and version there. So a refill looks at as many lanes as it feeds jobs,
however many jobs and shares wait. Whatever makes a job ready calls `open_lanes`, whatever
records its entry calls `charge`; both in the same transaction.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    update,
)

from job_engine.model import ExecutionMode, JobState
from job_engine.store.tables import actions, frontiers, is_ready, jobs, lanes, shares

DEFAULT_WEIGHT: Final = 1.0
"""Weight of a share that nobody has given another."""
DEFAULT_COST_S: Final = 1.0
"""Cost of an action that nobody has published."""
_VARIABLES: Final = 500
"""Values in one list of a statement; a database has a limit."""

Row = Mapping[str, Any] | RowMapping


class Queue(NamedTuple):
    """Jobs among which turns are taken."""

    action: str
    priority: int


class Key(NamedTuple):
    """What names a lane."""

    action: str
    priority: int
    share: str
    version: int

    @classmethod
    def of(cls, row: Row) -> Key:
        """Return the lane of a job."""
        return cls(row["action"], row["priority"], row["share"], row["version"])

    @property
    def queue(self) -> Queue:
        """The queue that the lane belongs to."""
        return Queue(self.action, self.priority)


# --- turns ----------------------------------------------------------------------


@dataclass
class Lane:
    """A lane while turns are dealt out."""

    key: Key
    virtual_s: float
    weight: float
    waiting: int | None = None
    """How many jobs wait in it; None: as many as you like."""


def deal(lanes_: Sequence[Lane], turns: int, cost_s: float) -> list[Lane]:
    """Deal out up to `turns` turns; returns whose each one is, in order.

    Ties go to the lane that comes first, and a lane has no more turns than jobs.
    """
    heap = [
        (lane.virtual_s, n, lane)
        for n, lane in enumerate(lanes_)
        if lane.waiting is None or lane.waiting > 0
    ]
    heapq.heapify(heap)
    dealt: Counter[int] = Counter()
    order: list[Lane] = []
    while heap and len(order) < turns:
        virtual_s, n, lane = heap[0]
        order.append(lane)
        dealt[n] += 1
        if lane.waiting is not None and dealt[n] >= lane.waiting:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (virtual_s + cost_s / lane.weight, n, lane))
    return order


# --- what waits -----------------------------------------------------------------


def is_ready_row(row: Row) -> bool:
    """Say of a row what `is_ready` says in SQL."""
    return bool(
        row["state"] == JobState.QUEUED
        and row["entry"] is None
        and row["not_before_ms"] is None
        and row["execution_mode"] != ExecutionMode.PULL
    )


def open_lanes(connection: Connection, rows: Iterable[Row]) -> None:
    """Make sure that those of `rows` that are ready have a lane.

    A share that joins a queue starts where the one that is next stands, or ahead of
    that if it is still ahead from before.
    """
    keys = dict.fromkeys(Key.of(row) for row in rows if is_ready_row(row))
    for queue in dict.fromkeys(key.queue for key in keys):
        mine = [key for key in keys if key.queue == queue]
        found = _lanes_of(connection, queue, [key.share for key in mine])
        closed = [key for key in mine if key not in found or not found[key].ready]
        if not closed:
            continue
        start_s = _next_s(connection, queue)
        for key in closed:
            ahead_s = _virtual_s(found, key.share)
            values = {"virtual_s": max(start_s, ahead_s), "ready": True}
            if key in found:
                connection.execute(update(lanes).where(*_is(key)).values(values))
            else:
                connection.execute(insert(lanes).values(**key._asdict(), **values))


class _Found(NamedTuple):
    virtual_s: float
    ready: bool


def _lanes_of(connection: Connection, queue: Queue, names: Sequence[str]) -> dict[Key, _Found]:
    found: dict[Key, _Found] = {}
    for batch in _batches(sorted(set(names))):
        query = select(lanes).where(
            lanes.c.action == queue.action,
            lanes.c.priority == queue.priority,
            lanes.c.share.in_(batch),
        )
        for row in connection.execute(query).mappings():
            found[Key.of(row)] = _Found(row["virtual_s"], row["ready"])
    return found


def _virtual_s(found: Mapping[Key, _Found], share: str) -> float:
    """Where a share stands, by what was found of its lanes; 0 where it has none."""
    return max((lane.virtual_s for key, lane in found.items() if key.share == share), default=0.0)


def _next_s(connection: Connection, queue: Queue) -> float:
    """Return where the share that is next stands; while none waits, where the last one stood."""
    first = select(func.min(lanes.c.virtual_s)).where(lanes.c.ready, *_in(lanes, queue))
    if (start_s := connection.execute(first).scalar()) is not None:
        return float(start_s)
    frontier = select(frontiers.c.virtual_s).where(*_in(frontiers, queue))
    return float(connection.execute(frontier).scalar() or 0.0)


# --- what was fed ---------------------------------------------------------------


def charge(connection: Connection, rows: Sequence[Row]) -> None:
    """Charge the shares of jobs that got their entry just now, in the order of `rows`."""
    for queue in dict.fromkeys(Key.of(row).queue for row in rows):
        keys = [key for row in rows if (key := Key.of(row)).queue == queue]
        names = list(dict.fromkeys(key.share for key in keys))
        weights = weights_of(connection, names)
        found = _lanes_of(connection, queue, names)
        cost_s = cost_of(connection, queue.action)
        last_s = _virtual_s(found, keys[-1].share)
        _advance(connection, queue, {n: cost_s / weights[n] * _count(keys, n) for n in names})
        _set_frontier(connection, queue, last_s)
        close_empty(connection, set(keys))


def _count(keys: Sequence[Key], share: str) -> int:
    return sum(key.share == share for key in keys)


def settle(connection: Connection, rows: Sequence[Row], taken_s: Sequence[float]) -> None:
    """Charge what the runs of fed jobs took, in place of what they were expected to.

    `taken_s` is 0 for a job that will not run after all, or will be fed again. A share
    that nothing waits for any more keeps what it owes, and forgets what it is owed.
    """
    more_s: dict[Queue, Counter[str]] = {}
    costs: dict[str, float] = {}
    for row, took_s in zip(rows, taken_s, strict=True):
        key = Key.of(row)
        if key.action not in costs:
            costs[key.action] = cost_of(connection, key.action)
        more_s.setdefault(key.queue, Counter())[key.share] += took_s - costs[key.action]  # type: ignore[assignment]
    versions = {(key.queue, key.share): key.version for key in map(Key.of, rows)}
    for queue, of_shares in more_s.items():
        weights = weights_of(connection, list(of_shares))
        debts = {name: more / weights[name] for name, more in of_shares.items()}
        found = {key.share for key in _lanes_of(connection, queue, list(debts))}
        _advance(connection, queue, {n: debt for n, debt in debts.items() if n in found})
        for name, debt in debts.items():
            if name not in found and debt > 0:
                key = Key(*queue, name, versions[queue, name])
                start_s = _next_s(connection, queue)
                values = {"virtual_s": start_s + debt, "ready": False}
                connection.execute(insert(lanes).values(**key._asdict(), **values))


def _advance(connection: Connection, queue: Queue, by_s: Mapping[str, float]) -> None:
    if by_s:
        values = [{"name": name, "by_s": more} for name, more in by_s.items()]
        connection.execute(
            update(lanes)
            .where(*_in(lanes, queue), lanes.c.share == bindparam("name"))
            .values(virtual_s=lanes.c.virtual_s + bindparam("by_s")),
            values,
        )


def _set_frontier(connection: Connection, queue: Queue, virtual_s: float) -> None:
    moved = update(frontiers).where(*_in(frontiers, queue)).values(virtual_s=virtual_s)
    if connection.execute(moved).rowcount == 0:
        connection.execute(insert(frontiers).values(**queue._asdict(), virtual_s=virtual_s))


def close_empty(connection: Connection, keys: Iterable[Key]) -> None:
    """Close the lanes in which nothing is ready; forget those that are not ahead.

    A lane that is ahead of the frontier is kept, so that its share does not get rid of
    what it owes by letting its backlog run empty for a moment.
    """
    values = [{f"in_{name}": value for name, value in key._asdict().items()} for key in keys]
    if not values:
        return
    waits = exists(
        select(literal(1)).where(is_ready(), *(jobs.c[n] == lanes.c[n] for n in Key._fields))
    )
    here = [lanes.c[name] == bindparam(f"in_{name}") for name in Key._fields]
    emptied = update(lanes).where(*here, lanes.c.ready, ~waits).values(ready=False)
    connection.execute(emptied, values)
    connection.execute(delete(lanes).where(*here, _is_caught_up()), values)


def _is_caught_up() -> ColumnElement[bool]:
    """Closed, and not ahead of the frontier."""
    frontier = (
        select(frontiers.c.virtual_s)
        .where(frontiers.c.action == lanes.c.action, frontiers.c.priority == lanes.c.priority)
        .scalar_subquery()
    )
    return and_(~lanes.c.ready, lanes.c.virtual_s <= func.coalesce(frontier, 0.0))


caught_up: Final = select(lanes.c.share).where(_is_caught_up()).limit(1)
"""Finds a closed lane that the others have caught up with, if there is one."""


def forget_caught_up(connection: Connection) -> None:
    """Forget the closed lanes that the others have caught up with."""
    connection.execute(delete(lanes).where(_is_caught_up()))


# --- what they are charged by ---------------------------------------------------


def weights_of(connection: Connection, names: Sequence[str]) -> dict[str, float]:
    """Return the weight of each share."""
    weights = dict.fromkeys(names, DEFAULT_WEIGHT)
    for batch in _batches(names):
        query = select(shares.c.name, shares.c.weight).where(shares.c.name.in_(batch))
        weights.update((row.name, row.weight) for row in connection.execute(query))
    return weights


def cost_of(connection: Connection, action: str) -> float:
    """Return the seconds of one thread that a run of an action is expected to take."""
    query = select(actions.c.description["cost"].as_float()).where(actions.c.name == action)
    cost_s = connection.execute(query).scalar()
    return DEFAULT_COST_S if cost_s is None else float(cost_s)


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
        *_in(lanes, queue), lanes.c.share.in_(names)
    )


def _is(key: Key) -> list[Any]:
    return [lanes.c[name] == value for name, value in key._asdict().items()]


def _in(table: Any, queue: Queue) -> list[Any]:
    return [table.c.action == queue.action, table.c.priority == queue.priority]


def _batches(names: Sequence[str]) -> Iterable[Sequence[str]]:
    return (names[start : start + _VARIABLES] for start in range(0, len(names), _VARIABLES))
