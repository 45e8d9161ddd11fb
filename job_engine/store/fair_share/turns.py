"""Dealing out turns to lanes: the pure arithmetic of fair share."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from job_engine.store.base import Row


class Queue(NamedTuple):
    """The jobs of one action and priority, among which shares take turns."""

    action: str
    priority: int


class Key(NamedTuple):
    """The key of a lane."""

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
    """A lane, while turns are dealt out; times are virtual seconds."""

    key: Key
    virtual_s: float
    weight: float
    waiting: int | None = None
    """Jobs that wait in it; None: an unlimited number."""


def deal(lanes_: Sequence[Lane], turns: int, cost_s: float) -> list[Lane]:
    """Deal out up to `turns` turns; return the lane of each, in order.

    A turn costs `cost_s` thread seconds. Ties go to the lane that comes first, and a lane
    gets no more turns than it has jobs.
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
