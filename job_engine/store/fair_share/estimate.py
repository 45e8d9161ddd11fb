"""Estimates of the queue position and the waiting time of QUEUED jobs.

They are computed on request, at a bounded cost however many jobs wait. For the lanes of the
requested jobs, the first jobs are read (`_OWN` in all); for other lanes of the same queue, the
first `_LANES` lanes (`_OTHERS` jobs in all); and up to `_URGENT` more urgent jobs are counted.
Beyond these limits

- the position of a job further back in its lane is extrapolated from the density of the first
  jobs;
- a lane with more jobs than were counted is assumed never to run empty;
- lanes that were not read are assumed to have as many turns as the others on average;
- a position is a lower bound, if more urgent jobs were not all counted.

Jobs in pull mode, and jobs that are not due, have no position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Integer,
    Select,
    Table,
    bindparam,
    delete,
    func,
    literal_column,
    select,
)

from job_engine.model import ExecutionMode
from job_engine.store.base import Clock, Database, Document
from job_engine.store.fair_share import fairness
from job_engine.store.fair_share.fairness import DEFAULT_WEIGHT
from job_engine.store.fair_share.starts import SLOT_MS
from job_engine.store.fair_share.turns import Key, Queue
from job_engine.store.fair_share.waiting import (
    MEASURED_SLOTS,
    OtherLane,
    ahead_in_queue,
    extrapolated,
    start_rate,
)
from job_engine.store.prepared import PreparedRead
from job_engine.store.tables import inline, is_ready, is_waiting, jobs, lanes, shares, starts

JOBS: Final = 500
"""Most jobs that one request gets estimates for."""
_OWN: Final = 2000
_FEW: Final = 20
"""Least number of jobs that are read of a requested lane."""
_LANES: Final = 100
_OTHERS: Final = 5000
_URGENT: Final = 5000
_WAITING: Final = 5000
_ALL_LANES: Final = 10_000
_BATCH: Final = 500

_ASKED: Final = (
    *("seq", "id", "action", "priority", "share", "version", "entry", "created_ms"),
    *("not_before_ms", "execution_mode"),
)


class Estimates:
    """Estimates queue positions and waiting times."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def of(self, ids: Sequence[str]) -> Mapping[str, Document]:
        """Return `queue-position` and `estimated-wait` of the first `JOBS` that are QUEUED.

        The position is 1 for the job that is next. The wait is in seconds; it is left
        out while no start was measured.
        """
        if not ids:
            return {}
        return self._database.read(lambda c: _answer(c, ids[:JOBS], self._clock()))

    def prune(self) -> None:
        """Delete counts of started jobs that are too old for the rate."""
        old = starts.c.slot < self._clock() // SLOT_MS - MEASURED_SLOTS
        if self._database.read(lambda c: c.execute(select(starts.c.slot).where(old)).first()):
            self._database.write(lambda c: c.execute(delete(starts).where(old)) and None)


def _answer(connection: Connection, ids: Sequence[str], now_ms: int) -> dict[str, Document]:
    rows: list[Any] = []
    for start in range(0, len(ids), _BATCH):
        rows += _QUEUED.by_id(connection, ids=ids[start : start + _BATCH]).values()
    rows = [row for row in rows if _stands_in_line(row)]
    own = max(_FEW, _OWN // max(1, len({Key.of(row) for row in rows})))
    found: dict[str, Document] = {}
    rows.sort(key=Key.of)
    for action, of_action in groupby(rows, key=lambda row: str(row["action"])):
        group = list(of_action)
        line = _Line(connection, action, own)
        slots = _slots(connection, action, now_ms)
        for row, position in line.positions(group):
            found[row["id"]] = {"queue-position": position}
            rate = start_rate(slots, now_ms, row["created_ms"])
            if rate is not None:
                found[row["id"]]["estimated-wait"] = round(position / rate)
    return found


def _stands_in_line(row: Any) -> bool:
    if row["entry"] is not None:
        return True
    return row["not_before_ms"] is None and row["execution_mode"] != ExecutionMode.PULL


def _slots(connection: Connection, action: str, now_ms: int) -> dict[int, int]:
    first = now_ms // SLOT_MS - MEASURED_SLOTS
    return dict(_SLOTS.all(connection, action=action, first=first))


class _Line:
    """The waiting jobs of one action, in its window and behind it."""

    def __init__(self, connection: Connection, action: str, own: int) -> None:
        self._connection = connection
        self._action = action
        self._own = own
        """Number of jobs to read of each requested lane."""
        self._cost_s = fairness.cost_of(connection, action)
        self._pushed = sorted(_PUSHED.all(connection, action=action, most=_WAITING))

    def positions(self, rows: Sequence[Any]) -> list[tuple[Any, int]]:
        """Return the position of each job of this action; `rows` are sorted by their lanes."""
        rank = {entry: n for n, (_, entry) in enumerate(self._pushed, start=1)}
        found = [
            (row, rank.get(row["entry"], len(self._pushed) + 1))
            for row in rows
            if row["entry"] is not None
        ]
        ready = [row for row in rows if row["entry"] is None]
        for queue, of_queue in groupby(ready, key=lambda row: Key.of(row).queue):
            found += self._behind_the_window(queue, list(of_queue))
        return found

    def _behind_the_window(self, queue: Queue, rows: Sequence[Any]) -> list[tuple[Any, int]]:
        before = sum(priority <= queue.priority for priority, _ in self._pushed)
        before += _COUNT_URGENT.scalar(self._connection, **queue._asdict(), most=_URGENT)
        others = _Others(self._connection, queue, self._cost_s)
        found = []
        for key, of_lane in groupby(rows, key=Key.of):
            first = _FIRST.all(self._connection, **key._asdict(), most=self._own)
            seqs = [seq for (seq,) in first]
            place = {seq: n for n, seq in enumerate(seqs)}
            for row in of_lane:
                seq = row["seq"]
                ahead = place.get(seq)
                if ahead is None:
                    ahead = extrapolated(len(seqs), min(seqs), max(seqs), seq) if seqs else 0
                found.append((row, before + others.ahead(key, ahead) + 1))
        return found


@dataclass(frozen=True)
class _Known:
    key: Key
    lane: OtherLane


class _Others:
    """The first lanes of one queue, and the number of the others."""

    def __init__(self, connection: Connection, queue: Queue, cost_s: float) -> None:
        self._connection = connection
        self._cost_s = cost_s
        total = _COUNT_LANES.scalar(connection, **queue._asdict(), most=_ALL_LANES)
        looked_at = min(total, _LANES)
        self._unseen = total - looked_at
        most = max(1, _OTHERS // max(1, looked_at))
        self._lanes: list[_Known] = []
        self._seen: dict[Key, list[OtherLane]] = {}
        looked = _LANES_OF.all(connection, **queue._asdict(), most=_LANES, counted=most)
        for share, version, virtual_s, weight, counted in looked:
            waiting = None if counted >= most else counted
            self._lanes.append(
                _Known(Key(*queue, share, version), OtherLane(waiting, virtual_s, weight))
            )

    def ahead(self, key: Key, own_ahead: int) -> int:
        """Return how many jobs of the queue have their turn before one of a lane."""
        virtual_s, weight = self._own(key)
        seen = self._but(key, virtual_s)
        ahead = ahead_in_queue(own_ahead, virtual_s, weight, self._cost_s, seen)
        unseen = self._unseen - (len(seen) == len(self._lanes) and self._unseen > 0)
        if unseen > 0 and seen:
            ahead += unseen * (ahead - own_ahead) // len(seen)
        return ahead

    def _but(self, key: Key, virtual_s: float) -> list[OtherLane]:
        """Return the lanes except one, each with whether it comes before that one."""
        if key not in self._seen:
            self._seen[key] = [
                # As the feed reads them: draws go to who was served less, then by name.
                replace(known.lane, before=(known.lane.virtual_s, known.key) < (virtual_s, key))
                for known in self._lanes
                if known.key != key
            ]
        return self._seen[key]

    def _own(self, key: Key) -> tuple[float, float]:
        for known in self._lanes:
            if known.key == key:
                return known.lane.virtual_s, known.lane.weight
        found = _OWN_LANE.all(self._connection, **key._asdict())
        return found[0] if found else (0.0, DEFAULT_WEIGHT)


# --- the statements, built once; tests read their query plans ---------------------


def _here(names: Sequence[str], table: Table) -> list[Any]:
    return [table.c[name] == bindparam(name) for name in names]


def _count(found: Select[Any]) -> Select[Any]:
    """Return how many rows there are; no more than `most`."""
    return select(func.count()).select_from(found.limit(_most).subquery())


def _lanes_of() -> Select[Any]:
    """Return the lanes of a queue whose turn it is first, each with its jobs counted so far."""
    of_lane = [jobs.c[name] == lanes.c[name] for name in Key._fields]
    counted = select(_one).where(is_ready(), *of_lane).limit(_counted).correlate(lanes).subquery()
    waiting = select(func.count()).select_from(counted).scalar_subquery().label("waiting")
    return (
        select(*lanes.c["share", "version", "virtual_s"], _weight, waiting)
        .select_from(_weighed)
        .where(lanes.c.ready, *_here(Queue._fields, lanes))
        .order_by(lanes.c.virtual_s, lanes.c.share, lanes.c.version)
        .limit(_most)
    )


_one: Final[Any] = literal_column("1").label("one")
_action: Final[Any] = bindparam("action")
_most: Final[Any] = bindparam("most", type_=Integer)
_counted: Final[Any] = bindparam("counted", type_=Integer)
_ids: Final[Any] = bindparam("ids", expanding=True)
_weight: Final = func.coalesce(shares.c.weight, DEFAULT_WEIGHT).label("weight")
_weighed: Final = lanes.outerjoin(shares, shares.c.name == lanes.c.share)

pushed_of: Final = (
    select(*jobs.c["priority", "entry"])
    .where(is_waiting(), jobs.c.action == _action)
    .order_by(jobs.c.priority)
    .limit(_most)
)
"""The entries of an action that wait in its window."""
first_of: Final = (
    select(jobs.c.seq)
    .where(is_ready(), *_here(Key._fields, jobs))
    .order_by(jobs.c.created_ms, jobs.c.seq)
    .limit(_most)
)
"""The numbers of the jobs that are next in a lane."""
count_urgent: Final = _count(
    select(_one).where(
        is_ready(), jobs.c.action == _action, jobs.c.priority < bindparam("priority")
    )
)
"""How many jobs are ready at more urgent priorities."""
count_lanes: Final = _count(select(_one).where(lanes.c.ready, *_here(Queue._fields, lanes)))
"""How many lanes of a queue are ready."""
lanes_of: Final = _lanes_of()
own_lane: Final = (
    select(lanes.c.virtual_s, _weight).select_from(_weighed).where(*_here(Key._fields, lanes))
)
"""Where one lane stands."""

_QUEUED: Final = PreparedRead(
    select(*jobs.c[_ASKED]).where(jobs.c.id.in_(_ids), jobs.c.state == inline("QUEUED")),
    many="ids",
)
_SLOTS: Final = PreparedRead(
    select(*starts.c["slot", "count"]).where(
        starts.c.action == _action, starts.c.slot > bindparam("first")
    )
)
_PUSHED: Final = PreparedRead(pushed_of)
_FIRST: Final = PreparedRead(first_of)
_COUNT_URGENT: Final = PreparedRead(count_urgent)
_COUNT_LANES: Final = PreparedRead(count_lanes)
_LANES_OF: Final = PreparedRead(lanes_of)
_OWN_LANE: Final = PreparedRead(own_lane)
