"""What a phase takes of the kernel's memory that no control group counts, and can be looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from job_engine.sandbox.file_locks import LockGauge
from job_engine.sandbox.waiting_sockets import SocketGauge


class KernelGauge:
    """Tells when a phase takes too much of it. One thread asks it.

    `processes` returns the phase's processes that are in sight.
    """

    def __init__(self, processes: Callable[[], Iterable[int]]) -> None:
        self._gauges = (LockGauge(processes), SocketGauge(processes))

    def exceeded(self, cpu_time_s: float) -> bool:
        """Whether it does, after so much CPU time."""
        return any(gauge.exceeded(cpu_time_s) for gauge in self._gauges)
