"""Limits on kernel memory of a phase that no control group counts, but that can be measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from job_engine.sandbox.file_locks import LockGauge
from job_engine.sandbox.waiting_sockets import SocketGauge


class KernelGauge:
    """Checks whether a phase takes too much of such memory; for one thread.

    `processes` returns the phase's processes that are visible.
    """

    def __init__(self, processes: Callable[[], Iterable[int]]) -> None:
        self._gauges = (LockGauge(processes), SocketGauge(processes))

    def exceeded(self, cpu_time_s: float) -> bool:
        """Return whether it does; `cpu_time_s` is the CPU time that the phase has used."""
        return any(gauge.exceeded(cpu_time_s) for gauge in self._gauges)
