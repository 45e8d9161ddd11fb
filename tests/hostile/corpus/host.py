"""What of the host a hostile program could harm: looked at before the corpus, and after it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

_SYSCTL: Final = (
    *("kernel/hostname", "kernel/core_pattern", "kernel/randomize_va_space", "kernel/sysrq"),
    *("kernel/yama/ptrace_scope", "kernel/modprobe", "kernel/pid_max", "kernel/threads-max"),
    *("vm/overcommit_memory", "vm/swappiness", "vm/mmap_min_addr"),
    *("fs/file-max", "fs/suid_dumpable", "fs/protected_hardlinks", "net/ipv4/ip_forward"),
)
_DIRECTORIES: Final = tuple(map(Path, ("/tmp", "/var/tmp", "/dev/shm", "/run", "/dev/mqueue")))
"""Of the host, where anybody may write, or what a program finds under the same name."""
CANARY: Final = "corpus-canary"
_TEXT: Final = "do not touch"
_SOLUTIONS: Final = ("solution.py", "solution.sh", "./solution")
_OWNER_COLUMN: Final = {"shm": 7, "msg": 7, "sem": 4}
"""proc(5), of `/proc/sysvipc`."""
_FIRST_SANDBOX_UID: Final = 60_000
_SLACK_BYTES: Final = 2**30
"""Less than what the corpus would take if its programs left behind what they may use."""
_SLACK_PROCESSES: Final = 100
_SLACK_S: Final = 2.0


@dataclass(frozen=True)
class Host:
    """A look at the host."""

    settings: dict[str, str]
    mounts: int
    ipc: list[str]
    """System V segments, queues and semaphores of a sandbox's users."""
    canaries: dict[Path, str]
    programs: list[list[str]]
    """Command lines of submissions' programs that run."""
    processes: int
    memory_bytes: int
    """That is to be had."""
    disk_bytes: int
    """That is free."""
    clock_s: float
    """What the clock says, less the time since the machine was started."""


def look() -> Host:
    """Look at the host now."""
    sysctl = Path("/proc/sys")
    programs = []
    processes = 0
    for process in psutil.process_iter(["cmdline"]):
        processes += 1
        words = process.info["cmdline"] or []
        if any(word in _SOLUTIONS for word in words):
            programs.append(words)
    ipc = [
        line
        for kind, column in _OWNER_COLUMN.items()
        for line in Path(f"/proc/sysvipc/{kind}").read_text().splitlines()[1:]
        if int(line.split()[column]) >= _FIRST_SANDBOX_UID
    ]
    return Host(
        settings={n: (sysctl / n).read_text() for n in _SYSCTL if (sysctl / n).exists()},
        mounts=len(Path("/proc/self/mountinfo").read_text().splitlines()),
        ipc=ipc,
        canaries={
            directory / CANARY: (directory / CANARY).read_text()
            for directory in _DIRECTORIES
            if (directory / CANARY).exists()
        },
        programs=programs,
        processes=processes,
        memory_bytes=psutil.virtual_memory().available,
        disk_bytes=shutil.disk_usage("/").free,
        clock_s=time.time() - time.monotonic(),
    )


def harm(before: Host, after: Host) -> list[str]:
    """Return what a host has suffered in between."""
    found = [
        f"{name}: {getattr(before, name)!r} became {getattr(after, name)!r}"
        for name in ("settings", "mounts", "ipc", "canaries")
        if getattr(before, name) != getattr(after, name)
    ]
    found += [f"still runs: {words}" for words in after.programs]
    for name, slack in (("memory_bytes", _SLACK_BYTES), ("disk_bytes", _SLACK_BYTES)):
        if getattr(after, name) < getattr(before, name) - slack:
            found.append(f"{name}: {getattr(before, name):,} became {getattr(after, name):,}")
    if after.processes > before.processes + _SLACK_PROCESSES:
        found.append(f"{after.processes} processes, before {before.processes}")
    if abs(after.clock_s - before.clock_s) > _SLACK_S:
        found.append(f"the clock was set by {after.clock_s - before.clock_s:.1f} s")
    return found


@contextmanager
def canaries() -> Iterator[None]:
    """Put files where programs would leave or change theirs, had they the host's directories."""
    places = [directory / CANARY for directory in _DIRECTORIES if directory.is_dir()]
    try:
        for place in places:
            place.write_text(_TEXT)
            place.chmod(0o666)
        yield
    finally:
        for place in places:
            place.unlink(missing_ok=True)
