"""kazoo's own `LockingQueue`: one thread that gets and consumes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from kazoo.recipe.queue import LockingQueue

from benchmarks.servers import connected

NAME: Final = "kazoo LockingQueue"
DURABILITY: Final = "ZooKeeper forceSync=yes; no store behind it"
_BATCH: Final = 100


@contextmanager
def filled(hosts: str, root: str, entries: int) -> Iterator[LockingQueue]:
    """A queue with that many entries."""
    with connected(hosts) as client:
        queue = LockingQueue(client, root)
        for first in range(0, entries, _BATCH):
            queue.put_all([f"job/{n}".encode() for n in range(first, min(entries, first + _BATCH))])
        yield queue
        client.delete(root, recursive=True)


def drain_per_s(hosts: str, entries: int, taken: int, limit_s: float) -> float:
    """Get and consume `taken` of `entries`, for `limit_s` at most; returns entries a second."""
    with filled(hosts, "/locking-queue", entries) as queue:
        done = 0
        started = time.monotonic()
        while done < taken and time.monotonic() - started < limit_s:
            queue.get()
            queue.consume()
            done += 1
        return done / (time.monotonic() - started)


def claims_ms(queue: LockingQueue, count: int) -> list[float]:
    """Return how long claims took, while the queue is kept as full as it is."""
    took = []
    for _ in range(count):
        started = time.perf_counter()
        taken = queue.get()
        took.append((time.perf_counter() - started) * 1000)
        queue.consume()
        queue.put(taken)
    return took
