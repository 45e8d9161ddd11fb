"""Advice on the flavour that an assignment needs, from the usage of graded submissions."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from job_engine.grading.flavours import Flavour
from job_engine.grading.results.model import PhaseSummary, Results
from job_engine.sandbox.base import Limits, Verdict

TIME_HEADROOM: Final = 1.5
"""Factor between a time limit and the slowest run, because machines may be busy."""
MEMORY_HEADROOM: Final = 1.25
_BY_THEMSELVES: Final = (Verdict.OK, Verdict.EXIT, Verdict.SIGNAL)
_TIMES: Final = ("wall_time_s", "cpu_time_s")


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The distribution of one number over all runs; 0 without observations."""

    p50: float
    p95: float
    largest: float


@dataclass(frozen=True, kw_only=True)
class Observed:
    """Usage of one phase; runs that a limit ended do not count, because they needed more."""

    phase: str
    runs: int
    at_a_limit: int
    """Further runs that a limit ended."""
    wall_time_s: Spread
    cpu_time_s: Spread
    memory_bytes: Spread
    limits: Mapping[str, float]
    """Its limits in the newest run."""


def observe(results: Iterable[Results]) -> list[Observed]:
    """Return the usage of each phase; `results` are sorted newest first."""
    found: dict[str, list[PhaseSummary]] = {}
    limits: dict[str, Mapping[str, float]] = {}
    for one in results:
        for phase in one.phases:
            found.setdefault(phase.name, []).append(phase)
            limits.setdefault(phase.name, one.receipt.limits.get(phase.name, {}))
    return [_observed(name, phases, limits[name]) for name, phases in found.items()]


def smallest_that_fits(observed: Sequence[Observed], flavours: Mapping[str, Flavour]) -> str | None:
    """Return the smallest flavour that suffices for all phases, or None."""
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
