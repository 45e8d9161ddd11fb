"""From claim to verdict with a warm slot: a four-phase submission a second, refills included.

The claim is the moment at which a worker has the job and asks for its slot; the verdict, when
every phase's result and what it handed over is there. Beside it, between two submissions of
one run each, the bare runtime runs the same programs. A submission that comes while the one
before it still runs is not held back by it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from benchmarks.figures import Bound, Figure, Peer, Scale, percentile
from benchmarks.sandboxes import AT_ONCE, Backend, backends

PERIOD_S: Final = 1.0
WARM_UP: Final = 8
"""Submissions that are not counted: from the second on, slots are made ahead."""
BARE_EVERY: Final = 4
P50_MS: Final = {"docker": 120.0, "bubblewrap": 60.0}
DURABILITY: Final = "stores nothing"


def arrivals(each: Callable[[], float], count: int, period_s: float) -> list[float]:
    """Do something at each tick of a clock that waits for nobody; returns what it returned."""
    began = time.monotonic()
    done = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for number in range(count):
            time.sleep(max(0.0, began + number * period_s - time.monotonic()))
            done.append(pool.submit(each))
        return [future.result() for future in done]


def measure_backend(backend: Backend, count: int) -> tuple[list[float], list[float]]:
    """Return milliseconds of each submission, and of the bare runtime's before and after."""
    runs = max(2, count // BARE_EVERY // 2)
    bare = [backend.bare.run() for _ in range(runs)]
    with backend.pool(warm_slots=AT_ONCE) as slots:
        found = arrivals(lambda: backend.grade(slots), WARM_UP + count, PERIOD_S)
    bare += [backend.bare.run() for _ in range(runs)]
    return found[WARM_UP:], bare


def run(scale: Scale) -> Figure:
    """Measure every backend that is here."""
    count = scale.pick(14, 120)
    found, missing = backends()
    measured = {backend.name: measure_backend(backend, count) for backend in found}
    p50 = {name: percentile(ours, 50) for name, (ours, _) in measured.items()}
    first = found[0].name if found else ""
    return Figure(
        what=f"claim to verdict of four phases that do nothing, one a second, {first}, p50",
        value=p50.get(first, 0.0),
        unit="ms",
        higher_is_better=False,
        jobs=count,
        threads=AT_ONCE,
        peers=[
            Peer(
                f"{backend.bare.name}, four in a row",
                percentile(measured[backend.name][1], 50),
                DURABILITY,
            )
            for backend in found
        ],
        missing=missing,
        bounds=[Bound(f"{name}, p50, ms", value, P50_MS[name]) for name, value in p50.items()],
        details={
            f"{name}, p{percent}, ms": percentile(ours, percent)
            for name, (ours, _) in measured.items()
            for percent in (50, 90, 99)
        },
        series={
            name: [(percentile(ours, p), p / 100) for p in range(1, 100)]
            for name, (ours, _) in measured.items()
        },
        axes=("ms", "share of verdicts by then"),
        durability=DURABILITY,
    )
