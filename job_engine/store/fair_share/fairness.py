"""Fair share by start-time fair queueing, among jobs of the same action and priority.

Each share (a job's `parent`, else its creator) has a virtual time in such a queue: the thread
seconds that it was given there, over its weight. The share with the smallest is next. A job
is charged with its action's cost when it is fed, and with the difference when it has ended.
A share that had nothing waiting joins at the settled virtual time of the next one (counting
what its jobs really took, not what is still in the queue). So idle shares do not save turns
up, and jobs that others have in the queue already are not held against a newcomer. Source:
Goyal, Vin and Cheng, "Start-time Fair Queuing", SIGCOMM 1996.

The table `lanes` holds the virtual times: every ready job belongs to the lane of its action,
priority, share and version. So a refill reads as many lanes as it feeds jobs, however many
jobs and shares wait. Whatever makes a job ready calls `open_lanes`, and whatever records its
entry calls `charge`, in the same transaction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal_column,
    select,
    text,
    update,
)

from job_engine.model import ExecutionMode, JobState
from job_engine.store.base import Row
from job_engine.store.fair_share.turns import Key, Queue
from job_engine.store.prepared import PreparedRead, PreparedWrite
from job_engine.store.tables import actions, frontiers, is_ready, jobs, lanes, shares

DEFAULT_WEIGHT: Final = 1.0
"""Weight of a share for which none was set."""
DEFAULT_COST_S: Final = 1.0
"""Cost, in thread seconds, of an action that no executor has published."""
_VARIABLES: Final = 500
"""Most values in one list of a statement, which databases limit."""
LONGEST_S: Final = 3600.0
"""Most seconds that one run is charged. They are measured by the host's clock: a correction of
that by a day would otherwise cost the share a day of turns."""


# --- lanes of waiting jobs ------------------------------------------------------


def is_ready_row(row: Row) -> bool:
    """Like `is_ready` in SQL, for a row that was read."""
    return bool(
        row["state"] == JobState.QUEUED
        and row["entry"] is None
        and row["not_before_ms"] is None
        and row["execution_mode"] != ExecutionMode.PULL
    )


def open_lanes(connection: Connection, rows: Iterable[Row]) -> None:
    """Ensure that the ready ones among `rows` have an open lane.

    A share that joins a queue starts at the virtual time of the next one, or at its own
    earlier one if that is greater.
    """
    keys = dict.fromkeys(Key.of(row) for row in rows if is_ready_row(row))
    _ENSURE_OPEN.later(connection, [_in_lane(key) for key in keys])


class _Times(NamedTuple):
    virtual_s: float
    settled_s: float


def _lanes_of(connection: Connection, queue: Queue, names: Sequence[str]) -> dict[Key, _Times]:
    found: dict[Key, _Times] = {}
    for batch in _batches(sorted(set(names))):
        rows = _LANES.all(connection, **queue._asdict(), names=batch)
        found.update((Key(*row[:4]), _Times(*row[4:])) for row in rows)
    return found


def _in_lane(key: Key) -> dict[str, Any]:
    return {f"in_{name}": value for name, value in key._asdict().items()}


def _start_s(connection: Connection, queue: Queue) -> float:
    """Return the settled virtual time of the next share, or the frontier if none waits."""
    start_s = _NEXT.scalar(connection, **queue._asdict())
    return _frontier_s(connection, queue) if start_s is None else float(start_s)


def _frontier_s(connection: Connection, queue: Queue) -> float:
    return float(_FRONTIER.scalar(connection, **queue._asdict()) or 0.0)


# --- charging -------------------------------------------------------------------


def charge(connection: Connection, rows: Sequence[Row]) -> None:
    """Charge the shares of jobs that have just got their entries, in the order of `rows`."""
    # Grouped by lane, because there are many rows and few lanes.
    fed: dict[Queue, dict[Key, int]] = {}
    for key, count in Counter(map(Key.of, reversed(rows))).items():
        fed.setdefault(key.queue, {})[key] = count
    for queue, keys in fed.items():
        turns: Counter[str] = Counter()
        for key, count in keys.items():
            turns[key.share] += count
        weights = weights_of(connection, list(turns))
        cost_s = cost_of(connection, queue.action)
        found = _lanes_of(connection, queue, [next(iter(keys)).share])
        _advance(connection, queue, {n: (cost_s / weights[n] * turns[n], 0.0) for n in turns})
        if found:
            _set_frontier(connection, queue, max(lane.settled_s for lane in found.values()))
        close_empty(connection, keys)


def settle(connection: Connection, rows: Sequence[Row], taken_s: Sequence[float]) -> None:
    """Replace the expected costs of fed jobs by the seconds that their runs took.

    `taken_s` is 0 for a job that will not run, or will be fed again, and counts up to
    `LONGEST_S`. A share with nothing waiting keeps what it owes, but not what it is owed.
    """
    of_keys: dict[Key, list[float]] = {}
    for row, took_s in zip(rows, taken_s, strict=True):
        of_keys.setdefault(Key.of(row), []).append(min(took_s, LONGEST_S))
    taken: dict[Queue, dict[str, list[float]]] = {}
    versions: dict[tuple[Queue, str], int] = {}
    for key, took in of_keys.items():
        taken.setdefault(key.queue, {}).setdefault(key.share, []).extend(took)
        versions[key.queue, key.share] = key.version
    for queue, of_shares in taken.items():
        weights = weights_of(connection, list(of_shares))
        cost_s = cost_of(connection, queue.action)
        moves = {
            name: ((sum(runs) - cost_s * len(runs)) / weights[name], sum(runs) / weights[name])
            for name, runs in of_shares.items()
        }
        known = {key.share for key in _lanes_of(connection, queue, list(moves))}
        _advance(connection, queue, {n: move for n, move in moves.items() if n in known})
        start_s = _start_s(connection, queue)
        debts = [
            _in_lane(Key(*queue, name, versions[queue, name]))
            | {"new_virtual_s": start_s + owed, "new_settled_s": start_s + ran, "new_ready": False}
            for name, (owed, ran) in moves.items()
            if name not in known and owed > 0
        ]
        _OPEN.later(connection, debts)
        _let_time_pass(connection, queue, list(moves))


def _let_time_pass(connection: Connection, queue: Queue, names: Sequence[str]) -> None:
    """Forget what shares owe while nobody waits, because then nobody was kept waiting."""
    if _NEXT.scalar(connection, **queue._asdict()) is not None:
        return
    found = _lanes_of(connection, queue, names)
    latest_s = max((lane.virtual_s for lane in found.values()), default=0.0)
    if latest_s > _frontier_s(connection, queue):
        _set_frontier(connection, queue, latest_s)


def _advance(connection: Connection, queue: Queue, by_s: Mapping[str, tuple[float, float]]) -> None:
    """Advance shares by (charged, settled) seconds of virtual time."""
    values = [
        {"in_action": queue.action, "in_priority": queue.priority, "in_share": name}
        | {"by_s": by, "settled_by_s": settled}
        for name, (by, settled) in by_s.items()
    ]
    _ADVANCE.later(connection, values)


def _set_frontier(connection: Connection, queue: Queue, virtual_s: float) -> None:
    values = {"in_action": queue.action, "in_priority": queue.priority, "new_virtual_s": virtual_s}
    if _MOVE_FRONTIER.run(connection, [values]) == 0:
        connection.execute(insert(frontiers).values(**queue._asdict(), virtual_s=virtual_s))


def close_empty(connection: Connection, keys: Iterable[Key]) -> None:
    """Close lanes without ready jobs, and delete those not ahead of the frontier.

    A lane ahead of it is kept, so that a share cannot lose what it owes by letting its
    backlog run empty for a moment.
    """
    values = [_in_lane(key) for key in keys]
    _CLOSE.later(connection, values)
    _FORGET.later(connection, values)


def forget_caught_up(connection: Connection) -> None:
    """Delete closed lanes that are not ahead of the frontier any more."""
    connection.execute(delete(lanes).where(_is_caught_up()))


# --- weights and costs ----------------------------------------------------------


def weights_of(connection: Connection, names: Sequence[str]) -> dict[str, float]:
    """Return the weight of each share."""
    weights = dict.fromkeys(names, DEFAULT_WEIGHT)
    for batch in _batches(names):
        weights.update(_WEIGHTS.all(connection, names=batch))
    return weights


def cost_of(connection: Connection, action: str) -> float:
    """Return the expected cost of one run of an action, in thread seconds."""
    cost_s = _COST.scalar(connection, action=action)
    return DEFAULT_COST_S if cost_s is None else float(cost_s)


def _batches(names: Sequence[str]) -> Iterable[Sequence[str]]:
    return (names[start : start + _VARIABLES] for start in range(0, len(names), _VARIABLES))


# --- the statements, built once -----------------------------------------------------


def _is_caught_up() -> ColumnElement[bool]:
    """Select closed lanes that are not ahead of the frontier."""
    frontier = (
        select(frontiers.c.virtual_s)
        .where(frontiers.c.action == lanes.c.action, frontiers.c.priority == lanes.c.priority)
        .scalar_subquery()
    )
    return and_(~lanes.c.ready, lanes.c.virtual_s <= func.coalesce(frontier, 0.0))


def _in_queue(table: Table, prefix: str = "") -> list[Any]:
    return [table.c[name] == bindparam(prefix + name) for name in Queue._fields]


_waits = exists(
    select(literal_column("1")).where(is_ready(), *(jobs.c[n] == lanes.c[n] for n in Key._fields))
)
_here: Final = [lanes.c[name] == bindparam(f"in_{name}") for name in Key._fields]
_times: Final = ("virtual_s", "settled_s")
_names: Final[Any] = bindparam("names", expanding=True)

_LANES: Final = PreparedRead(
    select(*lanes.c[(*Key._fields, *_times)]).where(*_in_queue(lanes), lanes.c.share.in_(_names)),
    many="names",
)
_NEXT: Final = PreparedRead(
    select(lanes.c.settled_s)
    .where(lanes.c.ready, *_in_queue(lanes))
    .order_by(lanes.c.virtual_s)
    .limit(1)
)
_FRONTIER: Final = PreparedRead(select(frontiers.c.virtual_s).where(*_in_queue(frontiers)))
_WEIGHTS: Final = PreparedRead(
    select(shares.c.name, shares.c.weight).where(shares.c.name.in_(_names)), many="names"
)
_COST: Final = PreparedRead(
    select(actions.c.description["cost"].as_float()).where(actions.c.name == bindparam("action"))
)
_OPEN: Final = PreparedWrite(
    insert(lanes).values(
        {n: bindparam(f"in_{n}") for n in Key._fields}
        | {n: bindparam(f"new_{n}") for n in (*_times, "ready")}
    )
)
# Decided by the database, because nothing of it has to be known here: an answer would cost
# the creator of a job another round trip. For a bare `ready` SQLite would read every lane.
ensure_open: Final = text(
    """
    INSERT INTO lanes (action, priority, share, version, virtual_s, settled_s, ready)
    SELECT
        CAST(:in_action AS TEXT), CAST(:in_priority AS BIGINT), CAST(:in_share AS TEXT),
        CAST(:in_version AS BIGINT),
        CASE WHEN own.virtual_s > next.start_s THEN own.virtual_s ELSE next.start_s END,
        CASE WHEN own.settled_s > next.start_s THEN own.settled_s ELSE next.start_s END,
        TRUE
    FROM (
        SELECT MAX(virtual_s) AS virtual_s, MAX(settled_s) AS settled_s FROM lanes
        WHERE action = :in_action AND priority = :in_priority AND share = :in_share
    ) AS own, (
        SELECT COALESCE(
            (SELECT settled_s FROM lanes
             WHERE ready = TRUE AND action = :in_action AND priority = :in_priority
             ORDER BY virtual_s LIMIT 1),
            (SELECT virtual_s FROM frontiers
             WHERE action = :in_action AND priority = :in_priority),
            0.0
        ) AS start_s
    ) AS next
    WHERE NOT EXISTS (
        SELECT 1 FROM lanes
        WHERE ready = TRUE AND action = :in_action AND priority = :in_priority
          AND share = :in_share AND version = :in_version
    )
    ON CONFLICT (action, priority, share, version) DO UPDATE
    SET virtual_s = excluded.virtual_s, settled_s = excluded.settled_s, ready = TRUE
    """
)
_ENSURE_OPEN: Final = PreparedWrite(ensure_open)
_ADVANCE: Final = PreparedWrite(
    update(lanes)
    .where(*_in_queue(lanes, "in_"), lanes.c.share == bindparam("in_share"))
    .values(
        virtual_s=lanes.c.virtual_s + bindparam("by_s"),
        settled_s=lanes.c.settled_s + bindparam("settled_by_s"),
    )
)
_MOVE_FRONTIER: Final = PreparedWrite(
    update(frontiers)
    .where(*_in_queue(frontiers, "in_"))
    .values(virtual_s=bindparam("new_virtual_s"))
)
_CLOSE: Final = PreparedWrite(
    update(lanes).where(*_here, lanes.c.ready, ~_waits).values(ready=False)
)
_FORGET: Final = PreparedWrite(delete(lanes).where(*_here, _is_caught_up()))
caught_up: Final = select(lanes.c.share).where(_is_caught_up()).limit(1)
"""Selects one closed lane that is not ahead of the frontier, if there is any."""
