"""Runs one phase in a container of its own, from creation to the last byte of output."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from job_engine.errors import SandboxError
from job_engine.sandbox.base import Limits
from job_engine.sandbox.docker.attach import AttachedStream
from job_engine.sandbox.docker.daemon import Daemon
from job_engine.sandbox.docker.meter import Usage, make_meter
from job_engine.sandbox.docker.root_gauge import RootGauge
from job_engine.sandbox.docker.watch import Stop, Watch
from job_engine.sandbox.policy import socket_bytes

_DEATH_S: Final = 60.0
"""Longest that a killed container may take to die; past that the platform is broken."""
_SIGKILL: Final = 128 + 9
"""Docker's exit status of who was killed, whoever did it."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a phase's container ended."""

    status: int = 0
    """Docker's exit status."""
    reason: Stop | None = None
    """Why the engine ended it, if it did."""
    usage: Usage = field(default_factory=Usage)
    wall_time_s: float = 0.0
    stdout: bytes = b""
    stderr: bytes = b""


class PhaseContainer:
    """One phase's container; `run` it once, `kill` it from any thread at any time."""

    def __init__(
        self,
        daemon: Daemon,
        name: str,
        config: Mapping[str, Any],
        limits: Limits,
        root_bytes: int | None = None,
    ) -> None:
        """`root_bytes` is what it may write into its root; None: that is read-only."""
        self.id: str | None = None
        self._daemon = daemon
        self._name = name
        self._config = config
        self._limits = limits
        self._root_bytes = root_bytes
        self._lock = threading.Lock()
        self._watch: Watch | None = None
        self._killed = False

    def create(self) -> str:
        """Create the container and return its id; from here on somebody has to remove it."""
        self.id = self._daemon.create(self._name, self._config)
        return self.id

    def kill(self) -> None:
        """End it, or keep it from starting. Idempotent."""
        with self._lock:
            self._killed = True
            watch = self._watch
        if watch is not None:
            watch.stop(Stop.KILLED)

    def run(self, stdin: bytes | None, on_start: Callable[[], None]) -> Ending:
        """Run to the end; all processes are dead on return.

        Args:
            stdin: what the phase reads; None: an empty one.
            on_start: called once the phase's process runs.

        Raises `SandboxError` when Docker breaks on the way.
        """
        assert self.id is not None, "create comes first"
        with contextlib.closing(self._daemon.attach(self.id, stdin=stdin is not None)) as stream:
            meter = make_meter(self._daemon, self.id)
            watch = Watch(self._daemon, self.id, stream, meter, self._limits)
            watch.begin()
            status = None
            try:
                with self._lock:
                    self._watch = watch
                    killed = self._killed
                if not killed:
                    with (
                        meter.limited(socket_bytes(self._limits.memory_bytes)),
                        self._gauge(self.id, watch),
                    ):
                        self._daemon.start(self.id)
                        watch.started()
                        on_start()
                        status = self._live(self.id, stream, stdin)
            finally:
                watch.ended(ran=status is not None)
        if status is None:
            return Ending(reason=Stop.KILLED)
        return self._ending(self.id, watch, status)

    def _gauge(self, container: str, watch: Watch) -> contextlib.AbstractContextManager[object]:
        if self._root_bytes is None:
            return contextlib.nullcontext()
        return RootGauge(self._daemon, container, self._root_bytes, lambda: watch.stop(Stop.DISK))

    def _live(self, container: str, stream: AttachedStream, stdin: bytes | None) -> int:
        if stdin is not None:
            # At most 64 KiB: the buffers on the way take it, whether or not it is read.
            with contextlib.suppress(OSError):
                stream.send(stdin)
            stream.end_input()
        return self._daemon.wait(container, self._limits.wall_time_s + _DEATH_S)

    def _ending(self, container: str, watch: Watch, status: int) -> Ending:
        state = self._daemon.inspect(container)["State"]
        if state.get("Error"):
            raise SandboxError(f"Docker broke phase container {self._name}: {state['Error']}")
        usage = watch.usage
        if status == _SIGKILL and watch.reason is None:
            self._daemon.confirm()
        if state.get("OOMKilled") and not usage.oom_kills:
            # What the daemon heard counts where the cgroup is out of sight.
            usage = replace(usage, oom_kills=1)
        return Ending(
            status=status,
            reason=Stop.OUTPUT if watch.output.exceeded and not watch.reason else watch.reason,
            usage=usage,
            wall_time_s=_seconds(state["StartedAt"], state["FinishedAt"]),
            stdout=bytes(watch.output.stdout),
            stderr=bytes(watch.output.stderr),
        )


def _seconds(start: str, end: str) -> float:
    begun, finished = (datetime.fromisoformat(stamp) for stamp in (start, end))
    return max(0.0, (finished - begun).total_seconds())
