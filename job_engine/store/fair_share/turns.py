"""Whose turn it is, as a function of who waits: the arithmetic of fair shares."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from job_engine.store.base import Row


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
