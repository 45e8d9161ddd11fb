"""Which flavour an assignment needs, by what its graded submissions have used."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from job_engine.grading.flavours import Flavour
from job_engine.grading.results.model import PhaseSummary, Results
from job_engine.sandbox.base import Limits, Verdict

TIME_HEADROOM: Final = 1.5
"""A time limit should be this many times what the slowest needed: machines are busy."""
MEMORY_HEADROOM: Final = 1.25
_BY_THEMSELVES: Final = (Verdict.OK, Verdict.EXIT, Verdict.SIGNAL)
_TIMES: Final = ("wall_time_s", "cpu_time_s")


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How one number is spread over all runs; 0 where nothing was observed."""

    p50: float
    p95: float
    largest: float


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What one phase has used; runs that a limit ended say nothing of what it needs."""

    phase: str
    runs: int
    at_a_limit: int
    """Further runs that a limit ended."""
    wall_time_s: Spread
    cpu_time_s: Spread
    memory_bytes: Spread
    limits: Mapping[str, float]
    """What it was allowed in the newest run."""


def observe(results: Iterable[Results]) -> list[Observed]:
    """Return what each phase has used; `results` come newest first."""
    found: dict[str, list[PhaseSummary]] = {}
    limits: dict[str, Mapping[str, float]] = {}
    for one in results:
        for phase in one.phases:
            found.setdefault(phase.name, []).append(phase)
            limits.setdefault(phase.name, one.receipt.limits.get(phase.name, {}))
    return [_observed(name, phases, limits[name]) for name, phases in found.items()]


def smallest_that_fits(observed: Sequence[Observed], flavours: Mapping[str, Flavour]) -> str | None:
    """Return the smallest flavour with room for all that was observed; None: none has it."""
    by_size = sorted(flavours.items(), key=lambda item: _size(item[1].limits))
    for name, flavour in by_size:
        if all(_fits(phase, flavour.limits) for phase in observed):
            return name
    return None


def _observed(name: str, phases: list[PhaseSummary], limits: Mapping[str, float]) -> Observed:
    kept = [phase for phase in phases if phase.verdict in _BY_THEMSELVES]
    return Observed(
        phase=name,
        runs=len(kept),
        at_a_limit=len(phases) - len(kept),
        wall_time_s=_spread([phase.wall_time_s for phase in kept]),
        cpu_time_s=_spread([phase.cpu_time_s for phase in kept]),
        memory_bytes=_spread([float(phase.peak_memory_bytes) for phase in kept]),
        limits=limits,
    )


def _spread(values: list[float]) -> Spread:
    if len(values) < 2:
        only = values[0] if values else 0.0
        return Spread(p50=only, p95=only, largest=only)
    parts = statistics.quantiles(values, n=20, method="inclusive")
    return Spread(p50=parts[9], p95=parts[18], largest=max(values))


def _fits(phase: Observed, limits: Limits) -> bool:
    in_time = all(
        getattr(phase, name).largest * TIME_HEADROOM <= getattr(limits, name) for name in _TIMES
    )
    return in_time and phase.memory_bytes.largest * MEMORY_HEADROOM <= limits.memory_bytes


def _size(limits: Limits) -> tuple[float, ...]:
    return (limits.memory_bytes, limits.cpus, limits.wall_time_s, limits.cpu_time_s)
