"""Control groups of versions 1 and 2: limits, usage, and killing all processes of a group.

A slot has a group `<parent>/<label>/<slot>`, below it one for its holder and one for each
phase. All of a phase's memory counts: its processes, its /tmp, and the pages of trees that
it was the first to touch, which stay charged to the slot when the phase is over.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from job_engine.errors import SandboxError, SandboxRefusedError
from job_engine.sandbox.memory_limit import was_met
from job_engine.sandbox.policy import socket_bytes

_WANTED: Final = ("memory", "pids", "cpu", "cpuacct")
_WANTED_V2: Final = ("memory", "pids", "cpu")
_PERIOD_US: Final = 100_000
_KILL_TIMEOUT_S: Final = 10.0
_METER_BYTES: Final = 4096
"""Bytes that are read of a file; all files read here are shorter."""
_ATTEMPTS: Final = 5


@dataclass(frozen=True)
class Usage:
    """The usage of a group so far, and the limits that it has hit."""

    cpu_time_s: float
    peak_memory_bytes: int
    oom_kills: int
    process_limit_hits: int
    starved: bool
    """Whether these kills are the host's, because neither its limit nor its slot's was hit."""


class Hierarchies:
    """The mount points of this host's controllers; the constructor raises no error."""

    def __init__(self, parent: str, mountinfo: str | None = None) -> None:
        text = Path("/proc/self/mountinfo").read_text() if mountinfo is None else mountinfo
        self.parent = parent
        self.v1, self.v2 = _find(text)

    def check(self) -> None:
        """Raise `SandboxRefusedError` unless every controller that limits need is here."""
        missing = [name for name in _WANTED if name not in self.v1]
        if not missing:
            return
        if self.v1.keys() & set(_WANTED) or self.v2 is None:
            raise SandboxRefusedError(f"cgroup controllers are not mounted: {', '.join(missing)}")
        offered = (self.v2 / "cgroup.controllers").read_text().split()
        missing = [name for name in _WANTED_V2 if name not in offered]
        if missing:
            raise SandboxRefusedError(
                f"cgroup 2 at {self.v2} does not offer: {', '.join(missing)}; "
                "the executor needs a delegated group, or the root of the hierarchy"
            )

    @property
    def unified(self) -> bool:
        """True when limits come from version 2."""
        return "memory" not in self.v1

    def roots(self) -> list[Path]:
        """Return the engine's topmost group in each hierarchy; it may not exist yet."""
        if self.unified:
            return [self.v2 / self.parent] if self.v2 is not None else []
        return [mount / self.parent for mount in dict.fromkeys(self.v1[n] for n in _WANTED)]

    def slots(self, label: str) -> set[str]:
        """Return the names of the slots that a label has groups for, in any hierarchy."""
        found: set[str] = set()
        for root in self.roots():
            with contextlib.suppress(FileNotFoundError):
                found |= {entry.name for entry in (root / label).iterdir() if entry.is_dir()}
        return found


class Group:
    """One group, in all hierarchies that its limits need. `create` makes it."""

    def __init__(self, hierarchies: Hierarchies, path: str) -> None:
        self._hierarchies = hierarchies
        self._dirs = [root / path for root in hierarchies.roots()]
        self._dir_of = {
            name: mount / hierarchies.parent / path for name, mount in hierarchies.v1.items()
        }

    def create(self) -> None:
        """Create it and its ancestors. Raises `SandboxError`."""
        pairs = list(zip(self._dirs, self._hierarchies.roots(), strict=True))
        for attempt in range(_ATTEMPTS):
            try:
                for directory, root in pairs:
                    _make(directory, root.parent, self._hierarchies.unified)
            except FileNotFoundError as error:
                # Another thread may have removed the label's group with its last slot just now.
                if attempt == _ATTEMPTS - 1:
                    raise SandboxError(f"cannot make a cgroup: {error}") from error
            except OSError as error:
                raise SandboxError(f"cannot make a cgroup: {error}") from error
            else:
                return

    def limit(
        self,
        *,
        memory_bytes: int,
        processes: int | None = None,
        cpus: float | None = None,
    ) -> None:
        """Set limits; memory is without swap. Raises `SandboxError`."""
        try:
            self._limit_memory(memory_bytes)
            if processes is not None:
                self._write("pids", "pids.max", str(processes))
            if cpus is not None:
                self._limit_cpu(max(int(cpus * _PERIOD_US), 1000))
        except OSError as error:
            raise SandboxError(f"cannot set a cgroup's limit: {error}") from error

    def entrances(self) -> list[int]:
        """Open the files to which a process of one thread writes "0" to move in; close them.

        In version 1 this moves a single thread, for which the kernel does not take the lock for
        whole processes, which may take 15 ms (Linux 5.18, `cgroup_procs_write_start`). Version
        2 avoids the lock with the mount option `favordynmods` only.
        """
        name = "cgroup.procs" if self._hierarchies.unified else "tasks"
        return [os.open(f"{d}/{name}", os.O_WRONLY | os.O_CLOEXEC) for d in self._dirs]

    def cpu_time_s(self) -> float:
        """Return the CPU time of all its processes so far, in seconds."""
        if self._hierarchies.unified:
            return _field(self._read("cpu", "cpu.stat"), "usage_usec") / 1e6
        return int(self._read("cpuacct", "cpuacct.usage")) / 1e9

    def usage(self) -> Usage:
        """Return its usage, and the limits that it has hit."""
        if self._hierarchies.unified:
            peak = "memory.peak" if self._has("memory", "memory.peak") else "memory.current"
            oom = _field(self._read("memory", "memory.events"), "oom_kill")
        else:
            peak = "memory.max_usage_in_bytes"
            oom = _field(self._read("memory", "memory.oom_control"), "oom_kill")
        return Usage(
            cpu_time_s=self.cpu_time_s(),
            peak_memory_bytes=int(self._read("memory", peak)),
            oom_kills=oom,
            process_limit_hits=_field(self._read("pids", "pids.events"), "max"),
            starved=oom > 0 and not self._met_memory_limit(),
        )

    def processes(self) -> set[int]:
        """Return the processes in it and below it, in any hierarchy."""
        found: set[int] = set()
        for directory in self._dirs:
            for path in _below(directory):
                with contextlib.suppress(OSError):
                    found |= {int(pid) for pid in (path / "cgroup.procs").read_text().split()}
        return found

    def kill(self) -> None:
        """Kill the processes that are in it now; repeat it until there are none."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def remove(self) -> None:
        """Kill all processes in it and below, and remove the groups. Raises `SandboxError`."""
        deadline = time.monotonic() + _KILL_TIMEOUT_S
        pause = 0.001
        while not self._try_remove():
            self.kill()
            if time.monotonic() > deadline:
                raise SandboxError(f"cannot empty the cgroup {self._dirs[0]}")
            # Version 1 has no event for the last dead process leaving a group.
            time.sleep(pause)
            pause = min(pause * 2, 0.05)

    def _try_remove(self) -> bool:
        for directory in self._dirs:
            for path in sorted(_below(directory), reverse=True):
                try:
                    path.rmdir()
                except FileNotFoundError:
                    continue
                except OSError:
                    return False
            with contextlib.suppress(OSError):
                # The label's group is removed with its last slot.
                directory.parent.rmdir()
        return True

    def _limit_memory(self, size: int) -> None:
        if self._hierarchies.unified:
            self._write("memory", "memory.max", str(size))
            if self._has("memory", "memory.swap.max"):
                self._write("memory", "memory.swap.max", "0")
            elif _swap_is_on():
                raise SandboxRefusedError("swap is on, and this kernel cannot limit it")
            return
        self._write("memory", "memory.limit_in_bytes", str(size))
        self._write("memory", "memory.kmem.tcp.limit_in_bytes", str(socket_bytes(size)))
        if self._has("memory", "memory.memsw.limit_in_bytes"):
            self._write("memory", "memory.memsw.limit_in_bytes", str(size))
        else:
            self._write("memory", "memory.swappiness", "0")

    def _met_memory_limit(self) -> bool:
        directory = self._directory("memory")
        # The slot's limit applies to its phases too.
        return any(
            was_met(group, unified=self._hierarchies.unified)
            for group in (directory, directory.parent)
        )

    def _limit_cpu(self, quota_us: int) -> None:
        if self._hierarchies.unified:
            self._write("cpu", "cpu.max", f"{quota_us} {_PERIOD_US}")
            return
        self._write("cpu", "cpu.cfs_period_us", str(_PERIOD_US))
        self._write("cpu", "cpu.cfs_quota_us", str(quota_us))

    def _directory(self, controller: str) -> Path:
        return self._dirs[0] if self._hierarchies.unified else self._dir_of[controller]

    def _file(self, controller: str, name: str) -> Path:
        return self._directory(controller) / name

    def _has(self, controller: str, name: str) -> bool:
        return self._file(controller, name).exists()

    def _read(self, controller: str, name: str) -> str:
        # Six times as fast as pathlib's `read_text`; each phase reads four files.
        meter = os.open(f"{self._directory(controller)}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(meter, _METER_BYTES).decode()
        finally:
            os.close(meter)

    def _write(self, controller: str, name: str, value: str) -> None:
        self._file(controller, name).write_text(value)


def _find(mountinfo: str) -> tuple[dict[str, Path], Path | None]:
    """Return the mount points of version 1's controllers, and of version 2."""
    v1: dict[str, Path] = {}
    v2: Path | None = None
    for line in mountinfo.splitlines():
        mount, _, source = line.partition(" - ")
        kind, _, options = source.split(" ", 2)
        place = Path(mount.split(" ")[4])
        if kind == "cgroup2":
            v2 = place
        elif kind == "cgroup":
            v1 |= {name: place for name in options.split(",") if name in _WANTED}
    return v1, v2


def _make(directory: Path, mount: Path, unified: bool) -> None:
    if not unified and directory.parent != mount:
        # Usually the ancestors exist; in version 1 nothing else has to be done.
        with contextlib.suppress(FileNotFoundError):
            with contextlib.suppress(FileExistsError):
                directory.mkdir()
            return
    missing = [path for path in (directory, *directory.parents) if path.is_relative_to(mount)]
    for path in reversed(missing):
        with contextlib.suppress(FileExistsError):
            path.mkdir()
        if unified and path != directory:
            _delegate(path)
        elif path.parent == mount:
            _count_children(path / "memory.use_hierarchy")


def _count_children(setting: Path) -> None:
    # Off on old kernels, where a slot's budget would then not bind its phases.
    if setting.exists() and setting.read_text().strip() == "0":
        setting.write_text("1")


def _delegate(path: Path) -> None:
    control = path / "cgroup.subtree_control"
    absent = set(_WANTED_V2) - set(control.read_text().split())
    if absent:
        control.write_text(" ".join(f"+{name}" for name in sorted(absent)))


def _below(directory: Path) -> Iterator[Path]:
    for path, _, _ in os.walk(directory):
        yield Path(path)


def _field(text: str, name: str) -> int:
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    raise SandboxError(f"the kernel does not count {name!r} of a cgroup")


def _swap_is_on() -> bool:
    return len(Path("/proc/swaps").read_text().splitlines()) > 1
