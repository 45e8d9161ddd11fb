"""Following a slot from `go` to its end, and reporting to the job."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, Protocol

from job_engine.errors import SandboxError
from job_engine.grading.live import Live
from job_engine.grading.plan import Plan
from job_engine.grading.verdicts import explain
from job_engine.sandbox.base import (
    FileGrew,
    Inputs,
    PhaseOutput,
    PhaseResult,
    PhaseStarted,
    Slot,
    Verdict,
)

_FIRST_PERCENT: Final = 10
_LAST_PERCENT: Final = 95


class Watch(Protocol):
    """Receives a run's reports, and interrupts it; `job_engine.plugins.Context` is one.

    Every method may raise an `Interruption`.
    """

    @property
    def scratch(self) -> Path:
        """A private directory."""

    def progress(self, percent: int, message: str | None = None) -> None:
        """Report how far the run is."""

    def log(self, text: str) -> None:
        """Add lines to the job's log."""

    def event(self, kind: str, data: Mapping[str, Any], *, staff: bool = False) -> None:
        """Send an event to the followers of the job; `staff`: not to its students."""

    def sleep(self, seconds: float) -> None:
        """Wait, and wake at once when interrupted."""

    def lend(self, close: Callable[[], None]) -> AbstractContextManager[None]:
        """While entered, an interruption calls `close` from another thread."""


def follow(
    slot: Slot, plan: Plan, inputs: Inputs, watch: Watch, live: Live
) -> dict[str, PhaseResult]:
    """Set a slot going and report each phase as it starts, prints and ends."""
    order = [phase.name for phase in plan.specs]
    share = (_LAST_PERCENT - _FIRST_PERCENT) / len(order)
    ended: dict[str, PhaseResult] = {}
    slot.go(inputs)
    for event in slot.collect():
        if isinstance(event, PhaseStarted):
            percent = _FIRST_PERCENT + int(share * order.index(event.phase))
            watch.progress(percent, f"{event.phase}: running")
            live.started(event.phase)
            continue
        if isinstance(event, PhaseOutput):
            live.printed(event)
            continue
        if isinstance(event, FileGrew):
            live.grew(event)
            continue
        ended[event.phase] = event
        how = live.ended(event, explain(event, plan.limits(event.phase)))
        text = f"{event.phase}: {how}"
        percent = _FIRST_PERCENT + int(share * (order.index(event.phase) + 1))
        watch.progress(percent, text)
        memory = event.peak_memory_bytes
        watch.log(
            f"{text}; {event.wall_time_s:.2f} s, {event.cpu_time_s:.2f} s CPU"
            + (f", {memory / 2**20:.1f} MiB" if memory else "")
        )
    if any(result.verdict is Verdict.KILLED for result in ended.values()):
        # An interruption has been raised above already, unless it was not the run's own.
        watch.progress(_LAST_PERCENT)
        raise SandboxError("The sandbox was killed from outside of the run.")
    return ended
