"""The container of one phase: made ahead, waiting for its go, then run once."""

from __future__ import annotations

import contextlib
import shlex
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from typing import Any, Final

from job_engine.errors import SandboxError
from job_engine.sandbox.base import Limits
from job_engine.sandbox.docker.attach import AttachedStream
from job_engine.sandbox.docker.daemon import Daemon
from job_engine.sandbox.docker.ends import FirstProcess, first_process
from job_engine.sandbox.docker.meter import Meter, Usage, make_meter
from job_engine.sandbox.docker.root_gauge import RootGauge
from job_engine.sandbox.docker.watch import OnOutput, Stop, Watch
from job_engine.sandbox.policy import socket_bytes

WAIT_SCRIPT: Final = files(__package__).joinpath("wait.sh").read_text()

_DEATH_S: Final = 60.0
"""Seconds that a killed container may take to end; more is a platform fault."""
_SIGNALLED: Final = 128
"""Above it, Docker's exit status stands for a signal."""


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


@dataclass(frozen=True)
class _Waiting:
    """A started container that waits for its go."""

    id: str
    stream: AttachedStream
    meter: Meter
    first: FirstProcess | None

    def silent(self) -> bool:
        """Return whether it has neither ended nor printed anything."""
        if self.first is not None and self.first.ended():
            return False
        return self.stream.silent()

    def close(self) -> None:
        self.stream.close()
        if self.first is not None:
            self.first.close()


@dataclass(frozen=True)
class _Death:
    """How the first process ended, and with it all others."""

    status: int
    """As a shell's `$?`."""
    at_once: bool = False
    """Whether the kernel reported it, so that Docker need not be asked."""


class PhaseContainer:
    """`arm` it, `run` it once, `kill` it from any thread at any time, and `close` it."""

    def __init__(
        self,
        daemon: Daemon,
        name: str,
        config: Mapping[str, Any],
        limits: Limits,
        root_bytes: int | None = None,
    ) -> None:
        """`root_bytes` is what it may write into its root; None: that is read-only."""
        self.name = name
        self._daemon = daemon
        self._config = config
        self._limits = limits
        self._root_bytes = root_bytes
        self._lock = threading.Lock()
        self._waiting: _Waiting | None = None
        self._watch: Watch | None = None
        self._killed = False
        self._closed = False

    def arm(self) -> None:
        """Create and start it; it then waits for its go. The caller has to remove it.

        Raises `SandboxError`.
        """
        container = self._daemon.create(self.name, self._config)
        stream = self._daemon.attach(container, stdin=True)
        try:
            meter = make_meter(self._daemon, container)
            with meter.limited(socket_bytes(self._limits.memory_bytes)):
                self._daemon.start(container)
            pid = int(self._daemon.inspect(container)["State"]["Pid"])
            first = first_process(container, pid) if self._daemon.is_local else None
        except BaseException:
            stream.close()
            raise
        waiting = _Waiting(container, stream, meter, first)
        with self._lock:
            self._waiting = waiting
            closed = self._closed
        if closed:
            waiting.close()
            raise SandboxError("the slot was destroyed meanwhile")

    @property
    def armed(self) -> bool:
        """Return whether it was started."""
        return self._waiting is not None

    def ready(self) -> bool:
        """Return whether it waits for its go, and is intact."""
        return self._waiting is not None and self._waiting.silent()

    def over(self) -> bool:
        """Return whether it has visibly ended; false if its processes are not visible."""
        first = self._waiting.first if self._waiting is not None else None
        return first is not None and first.ended()

    def kill(self) -> None:
        """End it, or keep it from starting. Idempotent."""
        with self._lock:
            self._killed = True
            watch = self._watch
        if watch is not None:
            watch.stop(Stop.KILLED)

    def close(self) -> None:
        """Close the connections to it, which ends a waiting container. Idempotent."""
        with self._lock:
            self._closed = True
            waiting = self._waiting
        if waiting is not None:
            waiting.close()

    def run(
        self,
        environment: Mapping[str, str],
        stdin: bytes,
        on_start: Callable[[], None],
        on_output: OnOutput | None = None,
    ) -> Ending:
        """Run to the end; all processes are dead on return.

        Args:
            environment: the whole of the phase's.
            stdin: what the phase reads.
            on_start: called once the go is on its way.
            on_output: called with what is kept of its output, as it comes.

        Raises `SandboxError` when Docker breaks on the way.
        """
        waiting = self._waiting
        assert waiting is not None, "arm comes first"
        watch = self._begin_watch(waiting, on_output)
        death: _Death | None = None
        try:
            with self._lock:
                self._watch = watch
                killed = self._killed
            if not killed:
                _send_go(waiting.stream, environment, stdin)
                on_start()
                with self._gauge(waiting, watch):
                    death = self._live(waiting, watch)
        finally:
            marked_by = waiting.first if death is not None and death.at_once else None
            watch.ended(ran=death is not None, marked_by=marked_by)
        if death is None:
            return Ending(reason=Stop.KILLED)
        return self._ending(waiting.id, watch, death)

    def _begin_watch(self, waiting: _Waiting, on_output: OnOutput | None) -> Watch:
        watch = Watch(
            self._daemon,
            waiting.id,
            waiting.stream,
            waiting.meter,
            self._limits,
            waiting.first,
            on_output,
        )
        watch.begin()
        return watch

    def _gauge(self, waiting: _Waiting, watch: Watch) -> contextlib.AbstractContextManager[object]:
        if self._root_bytes is None:
            return contextlib.nullcontext()
        return RootGauge(
            self._daemon,
            waiting.id,
            self._root_bytes,
            waiting.meter.processes,
            on_full=lambda: watch.stop(Stop.DISK),
        )

    def _live(self, waiting: _Waiting, watch: Watch) -> _Death:
        """Return how it ended."""
        patience_s = self._limits.wall_time_kill_s + _DEATH_S
        if waiting.first is not None:
            if not watch.dead.wait(patience_s):
                raise SandboxError(f"the container {self.name} does not die")
            # If the root is kept, Docker itself must have finished with the container.
            plain = watch.reason is None and self._root_bytes is None
            if plain and waiting.first.exit_code() == 0:
                return _Death(0, at_once=True)
            # Docker may know more of any other end: an out-of-memory kill, or a request to
            # kill it.
            waiting.first.release()
        status = self._daemon.wait(waiting.id, patience_s)
        return _Death(status)

    def _ending(self, container: str, watch: Watch, death: _Death) -> Ending:
        usage = watch.usage
        if not death.at_once:
            state = self._daemon.inspect(container)["State"]
            if state.get("Error"):
                raise SandboxError(f"Docker broke phase container {self.name}: {state['Error']}")
            if state.get("OOMKilled") and not usage.oom_kills:
                # What the daemon heard counts where the cgroup is out of sight.
                usage = replace(usage, oom_kills=1)
            if not usage.oom_kills:
                self._refuse_others_doing(container, state, death, watch.reason)
        return Ending(
            status=death.status,
            reason=Stop.OUTPUT if watch.output.exceeded and not watch.reason else watch.reason,
            usage=usage,
            wall_time_s=watch.wall_time_s,
            stdout=bytes(watch.output.stdout),
            stderr=bytes(watch.output.stderr),
        )

    def _refuse_others_doing(
        self, container: str, state: Mapping[str, Any], death: _Death, reason: Stop | None
    ) -> None:
        """Raise `SandboxError` for an end that is neither the phase's doing nor the engine's."""
        if reason is None and death.status > _SIGNALLED:
            self._daemon.confirm()
            # What signal ended it proves nothing: its programs may trace the first process.
            if self._daemon.was_ordered(container, state, "kill"):
                raise SandboxError(f"the container {self.name} was killed from outside")
        if reason is Stop.WALL_TIME and self._daemon.was_ordered(container, state, "pause"):
            raise SandboxError(f"the container {self.name} was paused from outside")


def _send_go(stream: AttachedStream, environment: Mapping[str, str], stdin: bytes) -> None:
    # At most 64 KiB of input: the buffers on the way take it, read or not.
    with contextlib.suppress(OSError):
        stream.send(go(environment) + stdin)
    stream.end_input()


def go(environment: Mapping[str, str]) -> bytes:
    """Return the message that `wait.sh` waits for."""
    exports = "\n".join(f"export {name}={shlex.quote(v)}" for name, v in environment.items())
    lines = [environment.get("PATH", "").partition("\n")[0]]
    # No line of a value can pass for the last one.
    lines += [f"+{line}" for line in exports.split("\n")]
    return "\n".join([*lines, "go", ""]).encode(errors="surrogateescape")
