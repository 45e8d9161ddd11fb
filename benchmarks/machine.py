"""Describing the machine that figures were measured on."""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final

PROBES: Final = 200


def note() -> dict[str, Any]:
    """Describe this machine, as far as it bounds the figures."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "fsync_ms": round(fsync_ms(), 3),
        "load_1min": round(os.getloadavg()[0], 2),
    }


def fsync_ms(probes: int = PROBES) -> float:
    """Return the median time to append 4 KiB to a file and have it on disk.

    In the directory where the benchmarks keep their databases and logs.
    """
    took = []
    with tempfile.NamedTemporaryFile(buffering=0) as sink:
        for _ in range(probes):
            started = time.perf_counter()
            sink.write(bytes(4096))
            os.fsync(sink.fileno())
            took.append(time.perf_counter() - started)
    return statistics.median(took) * 1000


def _cpu() -> str:
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.processor()
