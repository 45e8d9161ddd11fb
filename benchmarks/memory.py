"""Memory of an executor at rest, and its growth with the number of jobs."""

from __future__ import annotations

from typing import Final

import psutil

from benchmarks.figures import Bound, Figure, Peer, Scale, slope
from benchmarks.peers import dramatiq
from benchmarks.servers import Running, engine, wait_for, zookeeper

THREADS: Final = 16
MB: Final = 1e6
STEPS: Final = 10
FLAT_MB: Final = 5.0
"""What memory may grow by over the second half of the jobs: less than what chance moves."""


def memory_of(pid: int) -> tuple[float, float]:
    """Return RSS and PSS, in MB, of a process and its children; PSS counts shared pages once."""
    first = psutil.Process(pid)
    infos = [p.memory_full_info() for p in (first, *first.children(recursive=True))]
    return sum(i.rss for i in infos) / MB, sum(i.pss for i in infos) / MB


def over_jobs(running: Running, jobs: int) -> list[tuple[float, float]]:
    """Run the jobs step by step; returns (jobs so far, RSS in MB), at rest after each step."""
    points = []
    for step in range(1, STEPS + 1):
        running.create([{"action": "nothing"}] * (jobs // STEPS))
        running.wait_drained()
        points.append((step * jobs / STEPS, memory_of(running.pid("executor"))[0]))
    return points


def memory_of_dramatiq(messages: int) -> tuple[float, float]:
    """Return RSS and PSS of all of dramatiq's processes after it drained that many, in MB."""
    with dramatiq.dramatiq(fsync=True) as peer:
        peer.send(messages)
        with peer.workers() as pid:
            wait_for(lambda: peer.left() == 0, 600, "dramatiq to drain")
            return memory_of(pid)


def run(scale: Scale) -> Figure:
    """Measure both."""
    jobs = scale.pick(5000, 100_000)
    with zookeeper() as hosts, engine(hosts, threads=THREADS) as running:
        at_rest, pss = memory_of(running.pid("executor"))
        points = over_jobs(running, jobs)
    missing = dramatiq.missing()
    peers, shared = [], {}
    if not missing:
        rss, theirs = memory_of_dramatiq(scale.pick(1000, 5000))
        name = f"dramatiq, {dramatiq.PROCESSES} x {dramatiq.THREADS} threads"
        peers = [Peer(name, rss, dramatiq.DURABILITY[True])]
        shared = {f"{name}, PSS, MB": theirs}
    second_half = points[STEPS // 2 :]
    grown = slope(second_half) * jobs / 2
    return Figure(
        what="executor at rest, resident set",
        value=at_rest,
        unit="MB",
        higher_is_better=False,
        jobs=jobs,
        threads=THREADS,
        peers=peers,
        missing=missing,
        bounds=[
            Bound("at rest, MB", at_rest, 70),
            Bound("growth over the second half of the jobs, MB", grown, FLAT_MB),
        ],
        details={
            "at rest, PSS, MB": pss,
            **shared,
            f"after {jobs:,} jobs, MB": points[-1][1],
            "slope over the second half, MB for each 10,000 jobs": slope(second_half) * 10_000,
        },
        series={"executor": [(0, at_rest), *points]},
        axes=("jobs run", "resident set, MB"),
    )
