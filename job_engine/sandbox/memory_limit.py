"""Whether processes that the kernel killed for want of memory met a limit, or the host did.

Control groups count the victims of the out-of-memory killer, whosever memory ran out ("killed
by any kind of OOM killer", the kernel's cgroup-v2.rst on `oom_kill`). A limit that was never
met explains none of them: then the host has no memory left, or a group around the engine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

_V1: Final = ("memory", "memory.memsw")
"""Version 1 limits memory, and memory with swap. It has a count of hits (`failcnt`), which
younger kernels leave at 0 (seen on Linux 6.18), so the peak is compared to the limit."""
_NEAR_BYTES: Final = 2**20
"""How far below its limit a group may be when it is met: a request is made whole or not at all."""


def was_met(group: Path, *, unified: bool) -> bool:
    """Return whether a group's memory limit was ever met; `unified` says version 2.

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
