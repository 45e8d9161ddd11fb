"""Queue positions and start rates: the pure arithmetic of `estimate.py`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from job_engine.store.fair_share.starts import SLOT_MS

MEASURED_SLOTS: Final = 30
"""Time slots over which a rate is measured: five minutes."""
_HALF_SLOTS: Final = 6
"""Half-life of a measurement, in slots: a minute."""
_SHORTEST_S: Final = 1.0
"""Shortest time, in seconds, that a rate is computed from."""


@dataclass(frozen=True)
class OtherLane:
    """A lane of another share in the same queue."""

    waiting: int | None
    """How many jobs wait in it; None: more than were counted."""
    virtual_s: float
    weight: float
    before: bool = False
    """Whether it comes first if the virtual times are equal."""


def turns_before(until_s: float, lane: OtherLane, cost_s: float) -> int:
    """Return how many turns a lane has before the virtual time `until_s` of another.

    `cost_s` is what a turn costs, which advances the lane by that over its weight.
    """
    if cost_s <= 0:
        turns = math.inf if (lane.virtual_s, not lane.before) < (until_s, True) else 0.0
    else:
        passed = (until_s - lane.virtual_s) * lane.weight / cost_s
        # Rounded, so that floating-point noise does not add a turn at the very same time.
        passed = round(passed, 6)
        turns = max(0.0, math.floor(passed) + 1.0 if lane.before else math.ceil(passed))
    if lane.waiting is not None:
        turns = min(turns, lane.waiting)
    return 0 if math.isinf(turns) else int(turns)


def ahead_in_queue(
    own_ahead: int,
    own_virtual_s: float,
    own_weight: float,
    cost_s: float,
    others: Iterable[OtherLane],
) -> int:
    """Return how many jobs of the queue have their turn before a job.

    `own_ahead` of them are in its own lane; `others` are the lanes of the others.
    """
    until_s = own_virtual_s + own_ahead * cost_s / own_weight
    return own_ahead + sum(turns_before(until_s, lane, cost_s) for lane in others)


def start_rate(slots: Mapping[int, int], now_ms: int, since_ms: int) -> float | None:
    """Return how many jobs are started in a second; None if that is unknown.

    `slots` has the number of jobs started in each time slot. A job has waited since
    `since_ms`, so an empty slot after that counts as no progress; an empty slot before
    that may only mean that there was nothing to start.
    """
    current = now_ms // SLOT_MS
    started = elapsed_s = weight_s = 0.0
    for slot in range(current - MEASURED_SLOTS + 1, current + 1):
        count = slots.get(slot, 0)
        if count == 0 and (slot + 1) * SLOT_MS <= since_ms:
            continue
        begun_ms = slot * SLOT_MS if count else max(slot * SLOT_MS, since_ms)
        lasted_s = (min(now_ms, (slot + 1) * SLOT_MS) - begun_ms) / 1000
        weight = 0.5 ** ((current - slot) / _HALF_SLOTS)
        started += weight * count
        weight_s += weight * lasted_s
        elapsed_s += lasted_s
    if started == 0:
        return None
    if elapsed_s < _SHORTEST_S:
        weight_s = max(weight_s, _SHORTEST_S)
    return started / weight_s


def extrapolated(read: int, first_seq: int, last_seq: int, seq: int) -> int:
    """Estimate how many jobs of a lane are ahead of a job that was not read.

    The `read` first jobs have numbers from `first_seq` to `last_seq` among all jobs; the
    others are assumed to have the same density.
    """
    if seq <= last_seq or last_seq <= first_seq:
        return read
    density = read / (last_seq - first_seq + 1)
    return read + int((seq - last_seq - 1) * min(1.0, density))
