"""Watches how much a container has written into its own root file system.

Docker can limit this with few storage drivers only, so it is measured once a second. A program
may exceed the limit by what it writes within a second, but no file exceeds the file-size limit;
the number of files is not limited. That is why operators have to allow `own-root`.

Docker's own measure misses files that were removed but are still open or mapped; those are found
through the phase's processes, if they are visible. It also misses files deeper than the longest
path; if the daemon's files are visible, `du` measures them, because it descends step by step.
"""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Final, Self

from job_engine.errors import SandboxError
from job_engine.log import get_logger
from job_engine.sandbox.docker.daemon import Daemon

_PERIOD_S: Final = 1.0
_MEASURE_S: Final = 20.0
"""Longest time for a measurement, in seconds; more means that there are too many files."""

log = get_logger(__name__)


class RootGauge:
    """While entered, calls `on_full` once when more than `limit_bytes` were written.

    `processes` returns those of the container that are in sight.
    """

    def __init__(
        self,
        daemon: Daemon,
        container: str,
        limit_bytes: int,
        processes: Callable[[], Iterable[int]],
        on_full: Callable[[], None],
    ) -> None:
        self._daemon = daemon
        self._container = container
        self._limit_bytes = limit_bytes
        self._processes = processes
        self._on_full = on_full
        self._upper: str | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="docker-root", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(_PERIOD_S):
            try:
                written = self._named_bytes() + removed_bytes(self._processes())
            except SandboxError as error:
                # A phase that cannot be measured must not go on.
                log.warning("docker.root.unwatched", error=error.message)
                written = self._limit_bytes + 1
            if written > self._limit_bytes:
                self._on_full()
                return

    def _named_bytes(self) -> int:
        if self._upper is None:
            self._upper = self._daemon.written_directory(self._container) or ""
        if self._upper:
            return named_bytes(self._upper)
        return self._daemon.written_bytes(self._container)


def named_bytes(directory: str) -> int:
    """Return the bytes of all files below a directory of the host, at any depth.

    Raises `SandboxError` if they cannot be measured, or not in time.
    """
    command = ["du", "--summarize", "--one-file-system", "--block-size=1", "--", directory]
    try:
        # `du` reports files that vanish while it runs as errors, and counts the others.
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_MEASURE_S
        )
        return int(done.stdout.split(b"\t")[0])
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise SandboxError(f"what a phase has written cannot be measured: {error}") from error


def removed_bytes(processes: Iterable[int]) -> int:
    """Return the bytes of removed files that some processes still hold open or mapped."""
    found: dict[int, int] = {}
    for pid in processes:
        for kind in ("fd", "map_files"):
            # Processes and files may vanish meanwhile.
            with contextlib.suppress(OSError):
                root = os.stat(f"/proc/{pid}/root").st_dev
                for name in os.listdir(f"/proc/{pid}/{kind}"):
                    found |= _removed(f"/proc/{pid}/{kind}/{name}", root)
    return sum(found.values())


def _removed(path: str, device: int) -> dict[int, int]:
    with contextlib.suppress(OSError):
        status = os.stat(path)
        # Removed files in other file systems are memory, and counted as such.
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 0 and status.st_dev == device:
            return {status.st_ino: status.st_blocks * 512}
    return {}
