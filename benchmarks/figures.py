"""Figures of the engine and its peers, and the bounds for them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

T = TypeVar("T")

Series = Mapping[str, Sequence[tuple[float, float]]]
"""Points by the name of their line."""

DURABLE: Final = "SQLite WAL, synchronous=FULL; ZooKeeper forceSync=yes"
"""What every figure of ours is measured with."""


@dataclass(frozen=True)
class Scale:
    """How much to measure; `quick` takes less than a minute for each benchmark."""

    quick: bool = False
    database_url: str | None = None
    """The database of what measures the API; None: SQLite, in a directory of its own."""

    def pick(self, quick: T, full: T) -> T:
        """Return the number for this scale."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Peer:
    """The same measurement of another system, in the same run."""

    name: str
    value: float
    durability: str


@dataclass(frozen=True)
class Bound:
    """A number that has to be at least, or at most, some limit."""

    what: str
    measured: float
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether it is."""
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    def as_json(self) -> dict[str, Any]:
        """Return it as it is written to a file."""
        relation = "at least" if self.at_least else "at most"
        return {
            "what": self.what,
            "measured": rounded(self.measured),
            "relation": relation,
            "limit": self.limit,
            "met": self.met,
        }


@dataclass(frozen=True)
class Figure:
    """What one benchmark found.

    The first peer is the one that `peer`, `peer_value` and `ratio` are about; `ratio` is
    ours over the peer's, so more than 1 is good where higher is better.
    """

    what: str
    value: float
    unit: str
    higher_is_better: bool
    jobs: int
    threads: int
    peers: Sequence[Peer] = ()
    missing: Sequence[str] = ()
    """Peers that could not be measured, and what to install."""
    bounds: Sequence[Bound] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    series: Series = field(default_factory=dict)
    axes: tuple[str, str] = ("", "")
    durability: str = DURABLE

    def as_json(self) -> dict[str, Any]:
        """Return it as it is written to a file."""
        peer = self.peers[0] if self.peers else None
        return {
            "what": self.what,
            "value": rounded(self.value),
            "unit": self.unit,
            "higher_is_better": self.higher_is_better,
            "durability": self.durability,
            "peer": peer.name if peer else None,
            "peer_value": rounded(peer.value) if peer else None,
            "peer_durability": peer.durability if peer else None,
            "ratio": self.ratio(peer) if peer else None,
            "jobs": self.jobs,
            "threads": self.threads,
            "peers": [
                {
                    "peer": other.name,
                    "value": rounded(other.value),
                    "durability": other.durability,
                    "ratio": self.ratio(other),
                }
                for other in self.peers
            ],
            "missing": list(self.missing),
            "bounds": [bound.as_json() for bound in self.bounds],
            "details": {name: rounded(value) for name, value in self.details.items()},
            "series": {name: [list(p) for p in line] for name, line in self.series.items()},
        }

    def ratio(self, peer: Peer) -> float | None:
        """Return ours over the peer's; None when the peer's is nothing."""
        return rounded(self.value / peer.value) if peer.value else None


def percentile(values: Sequence[float], percent: int) -> float:
    """Return a percentile; of a single value, that value."""
    if len(values) < 2:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return how much y grows with x, by least squares."""
    x, y = zip(*points, strict=True)
    return statistics.linear_regression(x, y).slope


def interleaved(rounds: int, systems: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Measure the systems in turns, so that a busy moment of the machine meets all of them."""
    found: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(rounds):
        for name, measure in systems.items():
            found[name].append(measure())
    return found


def medians(found: Mapping[str, Iterable[float]]) -> dict[str, float]:
    """Return the median of each system's rounds."""
    return {name: statistics.median(values) for name, values in found.items()}


def rounded(value: Any) -> Any:
    """Return a float with four significant digits, and anything else as it is."""
    return float(f"{value:.4g}") if isinstance(value, float) else value
