"""Watches how much a container has written into its own root file system.

Docker can limit that on few storage drivers only, so it is looked at, once a second. A
program may overshoot by what it writes within that second, no file larger than its limit;
number of files is not limited. Both are why `own-root` is the operator's to grant.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from job_engine.errors import SandboxError
from job_engine.log import get_logger
from job_engine.sandbox.docker.daemon import Daemon

_PERIOD_S: Final = 1.0

log = get_logger(__name__)


class RootGauge:
    """While entered, calls `on_full` once when more than `limit_bytes` were written."""

    def __init__(
        self, daemon: Daemon, container: str, limit_bytes: int, on_full: Callable[[], None]
    ) -> None:
        self._daemon = daemon
        self._container = container
        self._limit_bytes = limit_bytes
        self._on_full = on_full
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
                written = self._daemon.written_bytes(self._container)
            except SandboxError as error:
                # What cannot be watched must not go on.
                log.warning("docker.root.unwatched", error=error.message)
                written = self._limit_bytes + 1
            if written > self._limit_bytes:
                self._on_full()
                return
