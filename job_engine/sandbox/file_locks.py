"""File locks: kernel memory that no control group counts.

Accounting for them was reverted before Linux 5.15 was released, because of its cost (commit
3754707bcc3e). So a program can take 200 MB of the host in a second of CPU time by locking every
other byte of some files. The kernel has no limit to set, so the locks are counted now and then.

Counting the locks of open files finds all of them: a POSIX lock ends when its owner closes the
file, flock has one lock for each open file, and the system-call filters forbid the third kind
(open file description locks).
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

MAX_LOCKS: Final = 20_000
"""Locks that a phase may hold once the host has many: 4 MB, and more than programs need."""
_MANY: Final = 50_000
"""Locks on the whole host above which those of phases are counted."""
_PERIOD_S: Final = 0.25
"""CPU seconds of a phase between two counts: enough to make 50 MB of locks."""
_MAX_LOOKS: Final = 4_000
"""Open files of a phase whose locks are counted; the total is extrapolated from them."""
_SLABINFO: Final = Path("/proc/slabinfo")
_CACHES: Final = ("file_lock_cache", "filelock_cache")
"""The kernel's names for its cache of locks, since Linux 6.9 and before."""


class LockGauge:
    """Checks whether a phase holds too many file locks; for one thread.

    Args:
        processes: returns the phase's processes that this process can see.
        slabinfo: the kernel's statistics of its caches, which only root may read.
    """

    def __init__(self, processes: Callable[[], Iterable[int]], slabinfo: Path = _SLABINFO) -> None:
        self._processes = processes
        self._slabinfo = slabinfo
        self._next_look = _PERIOD_S

    def exceeded(self, cpu_time_s: float) -> bool:
        """Return whether it does; counts only after more CPU time was used, which locking takes."""
        if cpu_time_s < self._next_look:
            return False
        self._next_look = cpu_time_s + _PERIOD_S
        return _on_host(self._slabinfo) > _MANY and _held_by(self._processes()) > MAX_LOCKS


def _on_host(slabinfo: Path) -> float:
    """Return how many locks the host has; infinity if the kernel does not report it."""
    with contextlib.suppress(OSError):
        for line in slabinfo.read_text().splitlines():
            if line.startswith(_CACHES):
                return int(line.split()[1])
    return float("inf")


def _held_by(processes: Iterable[int]) -> float:
    """Return how many locks some processes hold, by a sample of their open files."""
    places = [place for pid in processes for place in _open_files(pid)]
    looked_at = random.sample(places, min(len(places), _MAX_LOOKS))
    return sum(map(_locks_of, looked_at)) * len(places) / max(len(looked_at), 1)


def _open_files(pid: int) -> list[str]:
    # Processes and open files may vanish in the meantime.
    with contextlib.suppress(OSError):
        return [f"/proc/{pid}/fdinfo/{name}" for name in os.listdir(f"/proc/{pid}/fdinfo")]
    return []


def _locks_of(place: str) -> int:
    """Count the locks that an open file has; proc_pid_fdinfo(5)."""
    with contextlib.suppress(OSError):
        return sum(line.startswith(b"lock:") for line in Path(place).read_bytes().splitlines())
    return 0
