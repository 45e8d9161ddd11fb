"""How long an idle engine takes from the 201 of a create to the action's first line.

For dramatiq, from the return of `send` to the actor's first line. The two take turns,
and each waits a while at random before a job, so that none meets the rhythm of a poll.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from benchmarks.figures import Bound, Figure, Peer, Scale, percentile
from benchmarks.peers import dramatiq
from benchmarks.servers import Running, engine, read_marks, wait_for, zookeeper

THREADS: Final = 16
BLOCK: Final = 10
"""Jobs of one system in a row."""
IDLE_S: Final = (0.05, 0.25)
OURS: Final = "job engine"

Measure = Callable[[], float]


def measure_engine(running: Running) -> float:
    """Create one job; returns milliseconds."""
    file = running.directory / "marks"
    body = {"action": "mark", "payload": {"file": str(file)}}
    response = running.api.session.post(f"{running.api.endpoint}/api/job", json=body)
    answered_at = time.monotonic()
    job = response.json()["resource-id"]
    started_at = wait_for(lambda: read_marks(file).get(job), 60, "a started job", every_s=0.002)
    running.wait_final(60)
    file.unlink()
    return (started_at - answered_at) * 1000


@contextmanager
def measuring_dramatiq(directory: Path) -> Iterator[Measure]:
    """Send one message at a time to workers that idle."""
    file = directory / "dramatiq-marks"
    with dramatiq.dramatiq(fsync=True) as peer, peer.workers(), peer.sender() as send:

        def measure() -> float:
            sent_at = send(file)
            started_at = wait_for(
                lambda: read_marks(file).get("message"), 60, "a started actor", every_s=0.002
            )
            file.unlink()
            return (started_at - sent_at) * 1000

        measure()  # the workers are up now
        yield measure


def in_turns(systems: Mapping[str, Measure], jobs: int) -> dict[str, list[float]]:
    """Measure blocks of one system and the next."""
    found: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(jobs // BLOCK):
        for name, measure in systems.items():
            for _ in range(BLOCK):
                time.sleep(random.uniform(*IDLE_S))
                found[name].append(measure())
    return found


def run(scale: Scale) -> Figure:
    """Measure both."""
    jobs = scale.pick(40, 300)
    missing = dramatiq.missing()
    with ExitStack() as stack:
        running = stack.enter_context(engine(stack.enter_context(zookeeper()), threads=THREADS))
        systems: dict[str, Measure] = {OURS: lambda: measure_engine(running)}
        measure_engine(running)
        if not missing:
            durable = dramatiq.name(fsync=True)
            systems[durable] = stack.enter_context(measuring_dramatiq(running.directory))
        found = in_turns(systems, jobs)
    points = {
        name: {f"p{p}": percentile(values, p) for p in (50, 90, 99)}
        for name, values in found.items()
    }
    ours = points.pop(OURS)
    return Figure(
        what="idle engine, 201 of the create to the first line of the action, p50",
        value=ours["p50"],
        unit="ms",
        higher_is_better=False,
        jobs=jobs,
        threads=THREADS,
        peers=[Peer(n, p["p50"], dramatiq.DURABILITY[True]) for n, p in points.items()],
        missing=missing,
        bounds=[Bound("p50, ms", ours["p50"], 15), Bound("p99, ms", ours["p99"], 60)],
        details={
            **{f"{p}, ms": value for p, value in ours.items()},
            **{f"{n}, {p}, ms": v for n, ps in points.items() for p, v in ps.items()},
        },
        series={
            name: [(percentile(values, p), p / 100) for p in range(1, 100)]
            for name, values in found.items()
        },
        axes=("ms", "share of jobs started by then"),
    )
