"""From claim to verdict with no slot ready, over the bare runtime's time for the same programs.

Ours makes a slot, runs four phases in it and destroys it; the bare runtime makes, runs and
removes four containers (or bwraps) one after another. They take turns. Ours is timed twice:
to the verdict, and until the next one may begin with nothing of this one left.
"""

from __future__ import annotations

import time
from typing import Final

from benchmarks.figures import Bound, Figure, Peer, Scale, percentile
from benchmarks.sandboxes import Backend, backends

DURABILITY: Final = "stores nothing"
LIMIT: Final = 1.15
DOCKER: Final = "docker"


def measure_backend(backend: Backend, rounds: int) -> dict[str, list[float]]:
    """Return milliseconds to the verdict, until nothing is left, and of the bare runtime."""
    found: dict[str, list[float]] = {"verdict": [], "gone": [], "bare": []}
    with backend.pool(warm_slots=0) as slots:
        backend.grade(slots)  # images are known now, and helpers run
        slots.settle()
        for _ in range(rounds):
            began = time.monotonic()
            found["verdict"].append(backend.grade(slots))
            slots.settle()
            found["gone"].append((time.monotonic() - began) * 1000)
            found["bare"].append(backend.bare.run())
    return found


def run(scale: Scale) -> Figure:
    """Measure every backend that is here."""
    rounds = scale.pick(8, 60)
    found, missing = backends()
    measured = {
        backend.name: {
            what: percentile(ms, 50) for what, ms in measure_backend(backend, rounds).items()
        }
        for backend in found
    }
    ratios = {name: ms["gone"] / ms["bare"] for name, ms in measured.items()}
    first = found[0].name if found else ""
    return Figure(
        what=f"cold, claim to verdict of four phases that do nothing, {first}, median",
        value=measured[first]["verdict"] if found else 0.0,
        unit="ms",
        higher_is_better=False,
        jobs=rounds,
        threads=1,
        peers=[
            Peer(f"{backend.bare.name}, four in a row", measured[backend.name]["bare"], DURABILITY)
            for backend in found
        ],
        missing=missing,
        bounds=[
            Bound("docker, until nothing is left, over bare", ratios[DOCKER], LIMIT),
        ]
        if DOCKER in ratios
        else [],
        details={
            f"{name}, {what}, ms": value
            for name, ms in measured.items()
            for what, value in ms.items()
        }
        | {f"{name}, until nothing is left, over bare": ratio for name, ratio in ratios.items()},
        durability=DURABILITY,
    )
