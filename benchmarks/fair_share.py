"""How soon small shares start behind a large one, and whether throughput follows weights.

First: one share of ten thousand waiting jobs is being worked off, and twenty shares of
ten are created. How many jobs start, in windows, between the moment in which such a job
was created and the first start of its share? A window is what the distributor keeps in
ZooKeeper: twice the threads, or one second of the measured drain. In a queue without
shares, such as those of our peers, the answer is what waited before, by arithmetic.

Then: shares of different weight, set when their jobs wait already, and each with more
jobs than are counted. How far is each share's part of the starts from its weight's?
"""

from __future__ import annotations

import json
import time
from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.figures import Bound, Figure, Peer, Scale
from benchmarks.servers import (
    Running,
    engine,
    read_marks,
    start_executor,
    wait_for,
    zookeeper,
)

THREADS: Final = 16
LARGE: Final = 10_000
SMALL_SHARES: Final = 20
SMALL: Final = 10
JOB_S: Final = 0.02
LARGEST_WINDOW: Final = 1000
WEIGHTS: Final = {"course/one": 1, "course/two": 2, "course/three": 3, "course/four": 4}


def marks(share: str, count: int, file: Path, seconds: float = JOB_S) -> list[dict[str, Any]]:
    """Jobs of a share that leave a mark each."""
    payload = json.dumps({"file": str(file), "seconds": seconds})
    return [{"action": "mark", "parent": share, "payload": payload}] * count


@dataclass(frozen=True)
class Newcomers:
    """How the small shares fared."""

    windows: list[float]
    """For each of them, from creation to first start."""
    waited_s: list[float]
    window: float
    """Jobs in a window at that moment."""
    fifo: float
    """Windows that would have been before them without shares."""
    pushed: int
    """Entries that waited in ZooKeeper then."""


def newcomers(running: Running, before: int) -> Newcomers:
    """Create the small shares once `before` jobs of the large one have started."""
    file = running.directory / "newcomers"
    running.create(marks("course/large", LARGE, file))
    wait_for(lambda: len(read_marks(file)) >= before, 300, f"{before} starts")
    shares = [f"course/small-{n}" for n in range(SMALL_SHARES)]
    ids = running.create([job for share in shares for job in marks(share, SMALL, file)])
    (pushed,) = running.query(
        "SELECT count(*) FROM jobs WHERE state = 'QUEUED' AND entry IS NOT NULL"
    )[0]
    groups = [ids[n : n + SMALL] for n in range(0, len(ids), SMALL)]

    def firsts() -> list[float] | None:
        found = read_marks(file)
        starts = [min(found.get(job, float("inf")) for job in group) for group in groups]
        return starts if max(starts) < float("inf") else None

    started = wait_for(firsts, 300, "the small shares' first starts", every_s=0.1)
    starts = sorted(read_marks(file).values())
    return _judged(starts, _created_at(running, ids[0]), started, pushed)


def _created_at(running: Running, job: str) -> float:
    """When a job was created, on the monotonic clock."""
    (created_ms,) = running.query("SELECT created_ms FROM jobs WHERE id = ?", job)[0]
    return float(created_ms) / 1000 - time.time() + time.monotonic()


def _judged(starts: list[float], created_at: float, firsts: list[float], pushed: int) -> Newcomers:
    done = bisect_right(starts, created_at)
    last_second = done - bisect_left(starts, created_at - 1.0)
    window = min(LARGEST_WINDOW, max(2 * THREADS, last_second))
    return Newcomers(
        windows=[(bisect_left(starts, first) - done) / window for first in firsts],
        waited_s=[first - created_at for first in firsts],
        window=window,
        fifo=(LARGE - done) / window,
        pushed=pushed,
    )


def by_weight(running: Running, counted: int) -> dict[str, float]:
    """Return the part of the first `counted` starts that each share had."""
    file = running.directory / "weights"
    running.engine.stop("executor")
    jobs = {share: marks(share, counted // 2, file) for share in WEIGHTS}
    share_of = {job: share for share, bodies in jobs.items() for job in running.create(bodies)}
    for share, weight in WEIGHTS.items():
        body = {"name": share, "weight": weight}
        reply = running.api.session.put(f"{running.api.endpoint}/api/engine/shares", json=body)
        reply.raise_for_status()
    start_executor(running.engine, threads=THREADS)
    wait_for(lambda: len(read_marks(file)) >= counted, 600, f"{counted} starts", every_s=0.2)
    first = sorted(read_marks(file).items(), key=lambda mark: mark[1])[:counted]
    counts = Counter(share_of[job] for job, _ in first)
    return {share: counts[share] / counted for share in WEIGHTS}


def run(scale: Scale) -> Figure:
    """Measure both; each on an engine of its own."""
    counted = scale.pick(1500, 6000)
    with zookeeper() as hosts, engine(hosts, threads=THREADS) as running:
        new = newcomers(running, scale.pick(500, 1500))
    with zookeeper() as hosts, engine(hosts, threads=THREADS) as running:
        parts = by_weight(running, counted)
    total = sum(WEIGHTS.values())
    errors = {share: abs(parts[share] * total / weight - 1) for share, weight in WEIGHTS.items()}
    worst = max(new.windows)
    return Figure(
        what=f"jobs that start before the first of each of {SMALL_SHARES} new shares, at most",
        value=worst,
        unit="windows",
        higher_is_better=False,
        jobs=LARGE + SMALL_SHARES * SMALL,
        threads=THREADS,
        peers=[Peer("first in, first out (by arithmetic)", new.fifo, "any")],
        bounds=[
            Bound("windows before a share's first start", worst, 1),
            Bound("throughput off its weight, %", 100 * max(errors.values()), 5),
        ],
        details={
            "jobs in a window": new.window,
            "entries in ZooKeeper at that moment": new.pushed,
            "longest wait for a share's first start, s": max(new.waited_s),
            "starts counted for the weights": counted,
            **{
                f"{share}, weight {WEIGHTS[share]}, part of the starts": part
                for share, part in parts.items()
            },
        },
    )
