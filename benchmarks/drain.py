"""No-op jobs a second through the whole engine.

Every state is durable: stored, fed, claimed, run, finished, consumed. All systems get
their jobs first and their workers then; counted is from the first finished job to the
last, so that nobody's start-up is in it. The details say the time with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from benchmarks.figures import Bound, Figure, Peer, Scale, interleaved, medians
from benchmarks.peers import dramatiq, locking_queue
from benchmarks.servers import engine, start_executor, wait_for, zookeeper

THREADS: Final = 16
KAZOO_ENTRIES: Final = 1000
NAME: Final = "job engine"


@dataclass(frozen=True)
class Drained:
    """How a drain went."""

    per_s: float
    wall_s: float


def drain(hosts: str, jobs: int) -> Drained:
    """Create no-ops with the executor stopped, start it, and wait until all are consumed."""
    with engine(hosts, threads=THREADS) as running:
        running.engine.stop("executor")
        running.create([{"action": "nothing"}] * jobs)
        already = running.succeeded()
        started = time.time()
        start_executor(running.engine, threads=THREADS)
        wait_for(lambda: running.succeeded() > already, 60, "a first job")
        done, first = running.succeeded() - already, time.time()
        ended = running.wait_drained()
    return Drained((jobs - done) / (ended - first), ended - started)


def run(scale: Scale) -> Figure:
    """Measure ours and the peers in turns."""
    jobs = scale.pick(4000, 20_000)
    walls: dict[str, list[float]] = {}

    def noted(name: str, measure: Callable[[], Drained | dramatiq.Drained]) -> float:
        drained = measure()
        walls.setdefault(name, []).append(drained.wall_s)
        return drained.per_s

    def drain_by_dramatiq(fsync: bool) -> Callable[[], float]:
        def measure() -> dramatiq.Drained:
            with dramatiq.dramatiq(fsync=fsync) as peer:
                return peer.drain(jobs)

        return lambda: noted(dramatiq.name(fsync=fsync), measure)

    with zookeeper() as hosts:
        systems = {NAME: lambda: noted(NAME, lambda: drain(hosts, jobs))}
        missing = dramatiq.missing()
        if not missing:
            systems |= {dramatiq.name(fsync=f): drain_by_dramatiq(f) for f in (True, False)}
        systems[locking_queue.NAME] = lambda: locking_queue.drain_per_s(
            hosts, KAZOO_ENTRIES, scale.pick(200, KAZOO_ENTRIES), limit_s=60
        )
        rounds = interleaved(scale.pick(1, 3), systems)
    found = medians(rounds)
    return _figure(jobs, found, missing, {**_listed(rounds, "jobs/s"), **_listed(walls, "s, all")})


def _figure(
    jobs: int, found: dict[str, float], missing: list[str], details: dict[str, str]
) -> Figure:
    ours = found[NAME]
    durabilities = {
        **{dramatiq.name(fsync=f): text for f, text in dramatiq.DURABILITY.items()},
        locking_queue.NAME: locking_queue.DURABILITY,
    }
    bounds = [Bound("over kazoo LockingQueue", ours / found[locking_queue.NAME], 25, at_least=True)]
    durable = dramatiq.name(fsync=True)
    if durable in found:
        bounds.insert(0, Bound(f"over {durable}", ours / found[durable], 1, at_least=True))
    return Figure(
        what="no-op jobs through the whole engine",
        value=ours,
        unit="jobs/s",
        higher_is_better=True,
        jobs=jobs,
        threads=THREADS,
        peers=[
            Peer(name, found[name], durabilities[name]) for name in durabilities if name in found
        ],
        missing=missing,
        bounds=bounds,
        details=details,
    )


def _listed(rounds: dict[str, list[float]], unit: str) -> dict[str, str]:
    """Say what each round found."""
    return {
        f"{name}, {unit}": ", ".join(f"{value:.4g}" for value in values)
        for name, values in rounds.items()
    }
