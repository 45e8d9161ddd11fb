"""How long runs and their phases took: the histograms of `GET /api/metrics`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import orjson
from prometheus_client import CollectorRegistry, Histogram

from job_engine.model.protocol.claims import JobNote
from job_engine.store.jobs.reports import EndedRun

PHASES: Final = ("clone", "build", "test", "program", "report")
"""The only names that become labels: an action may put any name into its events."""
_BUCKETS_S: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)


class Durations:
    """The histograms of one process of the API."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._runs = Histogram(
            "job_engine_run_seconds",
            "Seconds from the claim of a job to the end of its run, by action and by what the run "
            "ended with: success or failed (verdicts), retry (a platform fault), or away (the host "
            "of a repository).",
            labelnames=["action", "end"],
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._phases = Histogram(
            "job_engine_phase_seconds",
            "Wall time of the phases of graded submissions.",
            labelnames=["phase"],
            buckets=_BUCKETS_S,
            registry=registry,
        )

    def ended(self, run: EndedRun) -> None:
        """Observe the duration of a run that has ended."""
        again = "away" if run.away else "retry"
        end = run.state.value.lower() if run.state.is_final else again
        self._runs.labels(run.action, end).observe(run.took_s)

    def noted(self, notes: Iterable[JobNote]) -> None:
        """Observe the wall time of each phase that these events report as ended."""
        for note in notes:
            if note.kind == "phase":
                self._ended_phase(note.data)

    def _ended_phase(self, data: str) -> None:
        try:
            told = orjson.loads(data)
        except ValueError:
            return  # an event of another action, which may have any form
        if not isinstance(told, dict) or told.get("state") != "ended":
            return
        phase, took_s = told.get("phase"), told.get("wall_time_s")
        if phase in PHASES and isinstance(took_s, int | float) and 0 <= took_s < float("inf"):
            self._phases.labels(phase).observe(took_s)
