"""How many four-phase submissions a second a machine grades when there is always another one.

As many threads as an executor has by default, each with the next submission at once; beside
it, in turns, as many loops of the bare runtime running the same programs.
"""

from __future__ import annotations

import statistics
from typing import Final

from benchmarks.figures import Bound, Figure, Peer, Scale, interleaved
from benchmarks.sandboxes import AT_ONCE, Backend, backends, rate

DURABILITY: Final = "stores nothing"
LEAST: Final = 15.0
"""Submissions a second with bubblewrap on two cores."""
LEAST_OVER_BARE: Final = 0.9
COUNT: Final = {"docker": (8, 60), "bubblewrap": (40, 400)}
"""Submissions in a round, by backend: quick, full."""


def measure_backend(backend: Backend, scale: Scale) -> tuple[float, float]:
    """Return submissions a second of ours, and of the bare runtime."""
    count = scale.pick(*COUNT[backend.name])
    with backend.pool(warm_slots=AT_ONCE) as slots:
        backend.grade(slots)
        backend.bare.run()
        found = interleaved(
            scale.pick(2, 5),
            {
                "ours": lambda: rate(lambda: backend.grade(slots), count, AT_ONCE),
                "bare": lambda: rate(backend.bare.run, count, AT_ONCE),
            },
        )
    return statistics.median(found["ours"]), statistics.median(found["bare"])


def run(scale: Scale) -> Figure:
    """Measure every backend that is here."""
    found, missing = backends()
    measured = {backend.name: measure_backend(backend, scale) for backend in found}
    bounds = []
    if "bubblewrap" in measured:
        bounds.append(
            Bound("bubblewrap, submissions/s", measured["bubblewrap"][0], LEAST, at_least=True)
        )
    if "docker" in measured:
        ours, bare = measured["docker"]
        bounds.append(Bound("docker, over bare", ours / bare, LEAST_OVER_BARE, at_least=True))
    first = found[0].name if found else ""
    return Figure(
        what=f"four-phase submissions graded, always another one, {first}",
        value=measured[first][0] if found else 0.0,
        unit="submissions/s",
        higher_is_better=True,
        jobs=scale.pick(*COUNT[first]) if found else 0,
        threads=AT_ONCE,
        peers=[
            Peer(f"{backend.bare.name}, {AT_ONCE} loops", measured[backend.name][1], DURABILITY)
            for backend in found
        ],
        missing=missing,
        bounds=bounds,
        details={f"{name}, submissions/s": ours for name, (ours, _) in measured.items()},
        durability=DURABILITY,
    )
