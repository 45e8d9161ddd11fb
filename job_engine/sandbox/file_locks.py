"""File locks: memory of the kernel's that no control group counts.

Linux 5.15 was to count them, and took that back before it came out, for what it cost (commit
3754707bcc3e). So a program can take 200 MB of the host in a second of CPU time by locking every
other byte of some files. There is no limit that could be set, so it is looked at.

What is seen are the locks of whoever has their file open, which is all of them: a POSIX lock
goes when its owner closes the file, flock has one for each open file, which are counted, and
the filters of system calls take away the third kind (open file description locks).
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

MAX_LOCKS: Final = 20_000
"""Locks that a phase may hold, where the host has many: 4 MB, and more than programs have."""
_MANY: Final = 50_000
"""Locks on the whole host from which on it is looked at who has them."""
_PERIOD_S: Final = 0.25
"""CPU time of a phase from one look to the next: enough for 50 MB of locks."""
_MAX_LOOKS: Final = 4_000
"""Open files of a phase that are looked at; the others are taken to be like them."""
_SLABINFO: Final = Path("/proc/slabinfo")
_CACHES: Final = ("file_lock_cache", "filelock_cache")
"""What the kernel calls its stock of locks, and what it did before 6.9."""


class LockGauge:
    """Tells when a phase holds too many file locks. One thread asks it.

    Args:
        processes: returns the phase's processes that are in sight.
        slabinfo: where the kernel tells of its stocks, to root.
    """

    def __init__(self, processes: Callable[[], Iterable[int]], slabinfo: Path = _SLABINFO) -> None:
        self._processes = processes
        self._slabinfo = slabinfo
        self._next_look = _PERIOD_S

    def exceeded(self, cpu_time_s: float) -> bool:
        """Whether it does; looks only when it has used some more CPU time, to lock takes some."""
        if cpu_time_s < self._next_look:
            return False
        self._next_look = cpu_time_s + _PERIOD_S
        return _on_host(self._slabinfo) > _MANY and _held_by(self._processes()) > MAX_LOCKS


def _on_host(slabinfo: Path) -> float:
    """Return how many locks the host has; infinite where the kernel does not tell."""
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
    # Processes and their files go while they are looked at.
    with contextlib.suppress(OSError):
        return [f"/proc/{pid}/fdinfo/{name}" for name in os.listdir(f"/proc/{pid}/fdinfo")]
    return []


def _locks_of(place: str) -> int:
    """Count the locks that an open file has; proc_pid_fdinfo(5)."""
    with contextlib.suppress(OSError):
        return sum(line.startswith(b"lock:") for line in Path(place).read_bytes().splitlines())
    return 0
