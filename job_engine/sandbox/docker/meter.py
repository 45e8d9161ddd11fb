"""Measures what a phase uses, by its cgroup if that is visible, else by the daemon.

A container's cgroup disappears a moment after its first process has ended. If it is visible,
it is read once more at that process's end (`ends`); otherwise the last statistics of the daemon
count. Only details differ: the kernel enforces the limits, and CPU time is enforced either way.
"""

from __future__ import annotations

import contextlib
import errno
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from job_engine.errors import SandboxError
from job_engine.sandbox.docker.daemon import Daemon, doing
from job_engine.sandbox.memory_limit import was_met

CGROUP_ROOT: Final = Path("/sys/fs/cgroup")
_PROCESSES: Final = "cgroup.procs"


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What all processes of a phase used together, so far."""

    cpu_time_s: float = 0.0
    peak_memory_bytes: int = 0
    oom_kills: int = 0
    refused_forks: int = 0
    starved: bool = False
    """None of these kills can be for its limit: the host had no memory left."""

    def since(self, before: Usage) -> Usage:
        """Return what came on top of what was used before; the peak as it is."""
        return replace(
            self,
            cpu_time_s=max(0.0, self.cpu_time_s - before.cpu_time_s),
            oom_kills=self.oom_kills - before.oom_kills,
            refused_forks=self.refused_forks - before.refused_forks,
        )


class Meter(ABC):
    """Reads what one container uses."""

    period_s: float
    """Seconds between two samples, normally."""
    settle_s: float
    """Shortest interval between samples in seconds, also while there is nothing to read."""

    @abstractmethod
    def sample(self) -> Usage | None:
        """Return the usage so far; None while it cannot be read, and once it no longer can."""

    def forget_peak(self) -> None:  # noqa: B027 - optional
        """Reset the memory peak, if the kernel can."""

    def processes(self) -> list[int]:
        """Return the processes that are visible."""
        return []

    def limited(self, socket_bytes: int) -> contextlib.AbstractContextManager[None]:
        """While entered, which has to be before the start, set limits that Docker cannot."""
        return contextlib.nullcontext()


class CgroupMeter(Meter):
    """Reads the cgroup file system of the daemon's host, version 1 or 2."""

    period_s = 0.2
    settle_s = 0.01

    def __init__(self, path: str, *, unified: bool, root: Path = CGROUP_ROOT) -> None:
        path = path.lstrip("/")
        self._unified = unified
        self._cpu = root / path if unified else root / "cpuacct" / path
        self._memory = root / path if unified else root / "memory" / path
        self._pids = root / path if unified else root / "pids" / path

    def sample(self) -> Usage | None:
        """Read the counters."""
        try:
            return self._sample_unified() if self._unified else self._sample_v1()
        except (OSError, ValueError):
            return None

    def forget_peak(self) -> None:
        """See `Meter`; version 2 forgets nothing, and counts what the runtime took to start."""
        if not self._unified:
            with contextlib.suppress(OSError):
                (self._memory / "memory.max_usage_in_bytes").write_text("0")

    def processes(self) -> list[int]:
        """See `Meter`; the kernel says 0 for one of another pid namespace."""
        with contextlib.suppress(OSError):
            return [pid for pid in map(int, (self._pids / _PROCESSES).read_text().split()) if pid]
        return []

    @contextlib.contextmanager
    def limited(self, socket_bytes: int) -> Iterator[None]:
        """Limit the buffers of sockets, which version 1 counts apart from memory.

        The group is made before the container starts, because a socket that is older than its
        group's limit is never counted; the runtime takes over an empty group. An executor that
        cannot write to groups (in a container, or not as root) cannot set this limit.
        """
        if self._unified or not self._limit(socket_bytes):
            yield
            return
        try:
            yield
        finally:
            self._drop()

    def _limit(self, socket_bytes: int) -> bool:
        """Make the group with its limit; False: groups are not this executor's to make."""
        try:
            self._memory.mkdir()
            (self._memory / "memory.kmem.tcp.limit_in_bytes").write_text(str(socket_bytes))
        except OSError as error:
            self._drop()
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                return False
            raise SandboxError(f"cannot limit a container's sockets: {error}") from error
        return True

    def _drop(self) -> None:
        # Once the container has run, the runtime removes it.
        with contextlib.suppress(OSError):
            self._memory.rmdir()

    def _sample_v1(self) -> Usage:
        oom_kills = _field(self._memory / "memory.oom_control", "oom_kill")
        return Usage(
            cpu_time_s=_number(self._cpu / "cpuacct.usage") / 1e9,
            peak_memory_bytes=_number(self._memory / "memory.max_usage_in_bytes"),
            oom_kills=oom_kills,
            refused_forks=_field(self._pids / "pids.events", "max"),
            starved=self._starved(oom_kills),
        )

    def _sample_unified(self) -> Usage:
        peak = self._memory / "memory.peak"  # Since Linux 5.19.
        oom_kills = _field(self._memory / "memory.events", "oom_kill")
        return Usage(
            cpu_time_s=_field(self._cpu / "cpu.stat", "usage_usec") / 1e6,
            peak_memory_bytes=_number(peak) if peak.exists() else 0,
            oom_kills=oom_kills,
            refused_forks=_field(self._pids / "pids.events", "max"),
            starved=self._starved(oom_kills),
        )

    def _starved(self, oom_kills: int) -> bool:
        return oom_kills > 0 and not was_met(self._memory, unified=self._unified)


class StatsMeter(Meter):
    """Asks the daemon, which has no count of kills and refusals."""

    period_s = 0.5
    settle_s = 0.1

    def __init__(self, daemon: Daemon, container: str) -> None:
        self._daemon = daemon
        self._container = container

    def sample(self) -> Usage | None:
        """Ask for one set of statistics."""
        try:
            with doing("read a container's statistics"):
                stats: Mapping[str, Any] = self._daemon.api.stats(
                    self._container, stream=False, one_shot=True
                )
        except SandboxError:
            return None
        memory, cpu = stats.get("memory_stats") or {}, stats.get("cpu_stats") or {}
        used = (cpu.get("cpu_usage") or {}).get("total_usage", 0)
        if not memory.get("usage"):
            return None  # Not started yet, or over.
        return Usage(
            cpu_time_s=used / 1e9,
            peak_memory_bytes=int(memory.get("max_usage") or memory["usage"]),
        )


def make_meter(daemon: Daemon, container: str, root: Path = CGROUP_ROOT) -> Meter:
    """Return the meter for a container that has just been created."""
    unified = str(daemon.info.get("CgroupVersion")) == "2"
    systemd = daemon.info.get("CgroupDriver") == "systemd"
    parent = Path(f"system.slice/docker-{container}.scope" if systemd else f"docker/{container}")
    # If the daemon's parent group is visible, so are its containers' groups.
    shown = root / parent.parent if unified else root / "memory" / parent.parent
    if daemon.is_local and shown.is_dir():
        return CgroupMeter(str(parent), unified=unified, root=root)
    return StatsMeter(daemon, container)


def _number(path: Path) -> int:
    return int(path.read_text())


def _field(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0
