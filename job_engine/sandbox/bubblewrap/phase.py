"""Running one phase of a slot, watched by the slot's thread."""

from __future__ import annotations

import dataclasses
import math
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

from job_engine.errors import SandboxError
from job_engine.sandbox.base import FileGrew, PhaseOutput, PhaseResult, PhaseSpec
from job_engine.sandbox.bubblewrap.cgroups import Group
from job_engine.sandbox.bubblewrap.launch import Launch
from job_engine.sandbox.bubblewrap.wire import CHUNK_BYTES, Channel
from job_engine.sandbox.egress import EgressProxy
from job_engine.sandbox.kernel_memory import KernelGauge
from job_engine.sandbox.verdict import Observations, decide, split_status

TICK_S: Final = 0.05
"""Seconds between two checks of CPU and wall time against their limits."""
_STOP_TIMEOUT_S: Final = 30.0
"""Seconds from the order to kill until all processes must have ended; more is a platform fault. A
phase may have a thousand processes and gibibytes of memory, which take long on a busy machine."""
_COMMAND_NOT_FOUND: Final = 127
_SETUP_FAILURES: Final = (b"bwrap: execvp ", b"bwrap: Can't chdir ")
"""Beginnings of bwrap's errors for which the phase itself is at fault."""


class KillSwitch:
    """An order to stop, given once by any thread, and polled by another."""

    def __init__(self) -> None:
        self.pressed = False
        # The number of a closed descriptor may be another's by now.
        self._lock = threading.Lock()
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def press(self) -> None:
        """Give the order. Idempotent."""
        self.pressed = True
        with self._lock:
            if self._event >= 0:
                os.eventfd_write(self._event, 1)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable."""
        return self._event

    def close(self) -> None:
        """Close the descriptor; the order remains in force."""
        with self._lock:
            if self._event >= 0:
                os.close(self._event)
            self._event = -1


@dataclass
class Output:
    """Standard output and error of a phase, capped together."""

    cap_bytes: int
    on_output: Callable[[int, bytes], None] | None = None
    """Called with what is kept, as it comes."""
    streams: dict[int, bytearray] = field(default_factory=dict)
    exceeded: bool = False

    def take(self, fd: int) -> bool:
        """Read available output, keep what fits the limit; return whether more may come."""
        try:
            data = os.read(fd, CHUNK_BYTES)
        except BlockingIOError:
            return False
        room = self.cap_bytes - sum(map(len, self.streams.values()))
        self.streams[fd] += data[:room]
        if self.on_output is not None and data[:room]:
            self.on_output(fd, data[:room])
        self.exceeded = self.exceeded or len(data) > room
        return bool(data) and not self.exceeded


class PhaseRun:
    """Runs one phase in a holder that is idle, and makes its result."""

    def __init__(
        self,
        spec: PhaseSpec,
        launch: Launch,
        *,
        channel: Channel,
        group: Group,
        switch: KillSwitch,
        stdin: bytes,
        private_hosts: list[str],
        on_start: Callable[[], None],
        on_output: Callable[[PhaseOutput | FileGrew], None],
    ) -> None:
        self._spec = spec
        self._launch = launch
        self._channel = channel
        self._group = group
        self._kernel = KernelGauge(group.processes)
        self._switch = switch
        self._stdin = stdin
        self._private_hosts = private_hosts
        self._on_start = on_start
        self._on_output = on_output
        self._output = Output(spec.limits.output_bytes, self._emit_output if spec.live else None)
        self._ended: dict[str, Any] | None = None
        self._out = self._err = -1
        self._seen: dict[str, bool] = {}
        """Reasons for which it was stopped, as fields of `Observations`."""

    def run(self) -> PhaseResult:
        """Return the result, without the hand-over. Raises `SandboxError`."""
        with ExitStack() as stack:
            try:
                follow = dataclasses.asdict(self._spec.follow) if self._spec.follow else None
                self._let_go(stack, "run", follow=follow)
                started_at = time.monotonic()
                ended = self._watch(stack, started_at)
                wall_time_s = time.monotonic() - started_at
                self._read_rest()
            except OSError as error:
                raise SandboxError(f"the slot broke: {error}") from error
        return self._result(ended, wall_time_s)

    def _let_go(self, stack: ExitStack, operation: str, **more: Any) -> None:
        """Let the command run, once its proxy serves."""
        stack.callback(self._launch.close)
        listener = self._launch.started()
        if listener is not None:
            proxy = EgressProxy(self._spec.reach, self._private_hosts)
            stack.callback(proxy.close)
            proxy.serve(socket.socket(fileno=listener))
        self._out, self._err = self._launch.out, self._launch.err
        self._output.streams = {self._out: bytearray(), self._err: bytearray()}
        self._launch.go(operation, self._stdin, **more)
        self._on_start()

    def _read_rest(self) -> None:
        """Read the remaining output after the end. Raises `SandboxError` if bwrap did not start."""
        broken = self._launch.failure()
        if broken is not None:
            raise SandboxError(broken)
        for fd in self._output.streams:
            while self._output.take(fd):
                pass

    def _emit_output(self, fd: int, data: bytes) -> None:
        self._on_output(PhaseOutput(self._spec.name, data, stderr=fd == self._err))

    def _watch(self, stack: ExitStack, started_at: float) -> dict[str, Any]:
        selector = stack.enter_context(selectors.DefaultSelector())
        for source in (self._out, self._err, self._channel, self._switch):
            selector.register(source, selectors.EVENT_READ)
        stop_by = math.inf
        while self._ended is None:
            for key, _ in selector.select(TICK_S):
                if key.fileobj is self._channel:
                    self._hear()
                elif key.fileobj is self._switch:
                    selector.unregister(self._switch)
                elif not self._output.take(key.fd):
                    # At the end or over the limit: stop reading, so that the writer blocks.
                    selector.unregister(key.fd)
            if self._must_stop(started_at) and stop_by == math.inf:
                stop_by = time.monotonic() + _STOP_TIMEOUT_S
                self._channel.send({"op": "kill"})
            if time.monotonic() > stop_by:
                raise SandboxError("the slot's holder does not answer")
        return self._ended

    def _hear(self) -> None:
        message = self._channel.receive()
        if message is None:
            raise SandboxError("the slot's holder has died")
        if "grew" in message.head:
            self._on_output(FileGrew(self._spec.name, message.body))
        elif "error" in message.head:
            raise SandboxError(message.head["error"])
        elif "ended" in message.head:
            self._ended = message.head

    def _must_stop(self, started_at: float) -> bool:
        limits = self._spec.limits
        if not self._seen:
            cpu_time_s = self._group.cpu_time_s()
            self._seen = {
                name: True
                for name, value in (
                    ("killed", self._switch.pressed),
                    ("output_exceeded", self._output.exceeded),
                    ("wall_time_exceeded", time.monotonic() - started_at > limits.wall_time_kill_s),
                    ("cpu_time_exceeded", cpu_time_s > limits.cpu_time_kill_s),
                    ("kernel_memory_exceeded", self._kernel.exceeded(cpu_time_s)),
                )
                if value
            }
        return bool(self._seen)

    def _result(self, ended: dict[str, Any], wall_time_s: float) -> PhaseResult:
        usage = self._group.usage()
        code, number = split_status(ended["ended"])
        stdout, stderr = (bytes(self._output.streams[fd]) for fd in (self._out, self._err))
        if not (ended["ran"] or self._seen or usage.oom_kills or usage.process_limit_hits):
            if not stderr.startswith(_SETUP_FAILURES):
                raise SandboxError(f"bwrap failed: {stderr[-500:].decode(errors='replace')}")
            code, number = _COMMAND_NOT_FOUND, None
        seen = Observations(
            exit_code=code,
            signal=number,
            cpu_time_s=usage.cpu_time_s,
            oom_kills=usage.oom_kills,
            starved=usage.starved,
            process_limit_hits=usage.process_limit_hits,
            tree_full=ended["full"],
            file_at_limit=ended["file_at_limit"],
            **{**self._seen, **({"output_exceeded": True} if self._output.exceeded else {})},
        )
        return PhaseResult(
            phase=self._spec.name,
            verdict=decide(seen, self._spec.limits),
            exit_code=code,
            signal=number,
            wall_time_s=wall_time_s,
            cpu_time_s=usage.cpu_time_s,
            peak_memory_bytes=usage.peak_memory_bytes,
            stdout=stdout,
            stderr=stderr,
        )
