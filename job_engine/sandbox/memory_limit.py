"""Whether an out-of-memory kill was caused by a group's own limit, or by the host.

Control groups count all out-of-memory kills of their processes, also those because the host ran
out of memory ("killed by any kind of OOM killer", the kernel's cgroup-v2.rst on `oom_kill`). If
the group's limit was never hit, the host or a group around the engine had no memory left.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

_V1: Final = ("memory", "memory.memsw")
"""Version 1 limits memory, and memory with swap. It has a count of hits (`failcnt`), which
younger kernels leave at 0 (seen on Linux 6.18), so the peak is compared to the limit."""
_NEAR_BYTES: Final = 2**20
"""Bytes below the limit from which it counts as hit, because a request may exceed the rest."""


def was_met(group: Path, *, unified: bool) -> bool:
    """Return whether a group's memory limit was ever hit; `unified` means version 2.

    Raises `OSError` when the group cannot be read.
    """
    if unified:
        events = (group / "memory.events").read_text().splitlines()
        return any(line.startswith("max ") and line != "max 0" for line in events)
    return any(
        _number(group / f"{name}.max_usage_in_bytes") + _NEAR_BYTES
        >= _number(group / f"{name}.limit_in_bytes")
        for name in _V1
        if (group / f"{name}.limit_in_bytes").exists()
    )


def _number(file: Path) -> int:
    return int(file.read_text())
