"""How far the estimated waiting time of QUEUED jobs is off the time that they really wait.

A backlog of several shares is worked off, by jobs that take various times. Now and then
some jobs at random are asked for their `estimated-wait`, and what they say is compared
with the time until their first line runs. No peer estimates; what stands beside it is
what somebody would work out who sees only ages: the older jobs that wait, over the
rate so far.
"""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.fair_share import marks
from benchmarks.figures import Figure, Peer, Scale, percentile
from benchmarks.servers import Running, engine, read_marks, start_executor, wait_for, zookeeper

THREADS: Final = 16
SHARES: Final = {"course/large": 0.5, "course/middle": 0.3, "course/small": 0.2}
"""Their parts of the backlog."""
JOB_S: Final = (0.05, 0.1, 0.3)
ASKED_EVERY_S: Final = 2.0
ASKED: Final = 12
"""Jobs that are asked at a time."""
WARM_UP_S: Final = 3.0
LEAST_S: Final = 1.0
"""Shorter waits are left out: a tenth of a second would be a large part of them."""


@dataclass(frozen=True)
class Asked:
    """The estimate of a job, and when it was read."""

    job: str
    at: float
    estimate_s: float
    by_age_s: float


def backlog(running: Running, jobs: int, file: Path) -> list[str]:
    """Create the shares' jobs, one share after the other, in steps; returns ids by age."""
    ids: list[str] = []
    for _ in range(4):
        for share, part in SHARES.items():
            count = round(jobs * part / 4 / len(JOB_S))
            bodies = [job for s in JOB_S for job in marks(share, count, file, s)]
            random.shuffle(bodies)
            ids += running.create(bodies)
    return ids


def asked(running: Running, ids: list[str], file: Path) -> list[Asked]:
    """Ask some of those that wait, again and again, until few are left."""
    wait_for(lambda: read_marks(file), 60, "a first start")
    began = time.monotonic()
    found: list[Asked] = []
    next_at = began + WARM_UP_S
    while True:
        wait_for(lambda at=next_at: time.monotonic() >= at, 60, "the next round")  # type: ignore[misc]
        next_at += ASKED_EVERY_S
        started = read_marks(file)
        waiting = [job for job in ids if job not in started]
        if len(waiting) < 2 * ASKED:
            return found
        per_s = len(started) / (time.monotonic() - began)
        for place in sorted(random.sample(range(len(waiting)), ASKED)):
            at = time.monotonic()
            estimate_s = running.api.get(waiting[place]).data.get("estimated-wait")
            if estimate_s is not None:
                found.append(Asked(waiting[place], at, float(estimate_s), place / per_s))


def run(scale: Scale) -> Figure:
    """Work a backlog off, and ask meanwhile."""
    jobs = scale.pick(2400, 12_000)
    with zookeeper() as hosts, engine(hosts, threads=THREADS) as running:
        file = running.directory / "marks"
        running.engine.stop("executor")
        ids = backlog(running, jobs, file)
        start_executor(running.engine, threads=THREADS)
        estimates = asked(running, ids, file)
        running.wait_drained()
        started = read_marks(file)
    waits = [(one, started[one.job] - one.at) for one in estimates]
    waits = [(one, wait_s) for one, wait_s in waits if wait_s >= LEAST_S]
    ours = [100 * abs(one.estimate_s / wait_s - 1) for one, wait_s in waits]
    by_age = [100 * abs(one.by_age_s / wait_s - 1) for one, wait_s in waits]
    return Figure(
        what="estimated wait, off the real one, median",
        value=statistics.median(ours),
        unit="%",
        higher_is_better=False,
        jobs=len(ids),
        threads=THREADS,
        peers=[Peer("place by age, over the rate so far", statistics.median(by_age), "any")],
        details={
            "estimates": len(ours),
            "p90, %": percentile(ours, 90),
            "longest wait, s": max(wait_s for _, wait_s in waits),
        },
        series={
            "estimated": sorted((wait_s, one.estimate_s) for one, wait_s in waits),
            "real": [(0.0, 0.0), *((w, w) for w in [max(wait_s for _, wait_s in waits)])],
        },
        axes=("real wait, s", "estimated wait, s"),
    )
