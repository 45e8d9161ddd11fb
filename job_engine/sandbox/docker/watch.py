"""Watches a running container: output, time, usage, and orders to stop."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from job_engine.errors import SandboxError
from job_engine.log import get_logger
from job_engine.sandbox.base import Limits
from job_engine.sandbox.docker.attach import STDERR, STDOUT, AttachedStream
from job_engine.sandbox.docker.daemon import Daemon
from job_engine.sandbox.docker.ends import FirstProcess
from job_engine.sandbox.docker.meter import Meter, Usage
from job_engine.sandbox.kernel_memory import KernelGauge

_DRAIN_S: Final = 10.0
"""Seconds for output to arrive after every process has ended."""
_GRAIN: Final = 0.05
"""Longest interval between samples, as a fraction of the time that the container has run."""
_KILL_RETRY_S: Final = 0.02
_MARK_RETRY_S: Final = 0.002

log = get_logger(__name__)

OnOutput = Callable[[int, bytes], None]
"""Called with a stream (`attach.STDOUT` or `STDERR`) and new bytes."""


class Stop(Enum):
    """Why the engine ended a container."""

    KILLED = auto()
    OUTPUT = auto()
    WALL_TIME = auto()
    CPU_TIME = auto()
    DISK = auto()
    KERNEL_MEMORY = auto()


class Output:
    """Standard output and error, kept up to the limit."""

    def __init__(self, limit_bytes: int, on_output: OnOutput | None = None) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.exceeded = False
        self._limit = limit_bytes
        self._left = limit_bytes
        self._mark = b""
        self._on_output = on_output
        self._reported = {STDOUT: 0, STDERR: 0}

    def add(self, stream: int, data: bytes) -> None:
        """Keep what still fits."""
        kept = data[: self._left]
        self.exceeded = self.exceeded or len(kept) < len(data)
        self._left -= len(kept)
        (self.stdout if stream == STDOUT else self.stderr).extend(kept)
        if not self._mark:  # Else it is reported once the mark is cut off.
            self._report_new()

    def end_at(self, mark: bytes) -> None:
        """Expect this mark at the end of each stream; it does not count as output."""
        self._mark = mark
        self._left += 2 * len(mark)

    def whole(self) -> bool:
        """Return whether both marks have arrived; cut them off, and what exceeds the limit."""
        streams = (self.stderr, self.stdout)
        arrived = bool(self._mark) and all(map(self._ends, streams))
        if not arrived and not (self._mark and self.exceeded):
            return False
        for stream in streams:
            if self._ends(stream):
                del stream[-len(self._mark) :]
            over = len(self.stdout) + len(self.stderr) - self._limit
            del stream[len(stream) - min(len(stream), max(0, over)) :]
        self._report_new()
        return True

    def _report_new(self) -> None:
        if self._on_output is None:
            return
        for number, stream in ((STDOUT, self.stdout), (STDERR, self.stderr)):
            if data := bytes(stream[self._reported[number] :]):
                self._reported[number] += len(data)
                self._on_output(number, data)

    def _ends(self, stream: bytearray) -> bool:
        return stream.endswith(self._mark)


class Watch:
    """A thread beside the one that sends the go to a container and waits for its end.

    The order: `begin`, send the go, wait, `ended`. `stop` may come at any time and from any
    thread. `dead` is set at the end of `first`, where there is one.
    """

    def __init__(
        self,
        daemon: Daemon,
        container: str,
        stream: AttachedStream,
        meter: Meter,
        limits: Limits,
        first: FirstProcess | None,
        on_output: OnOutput | None = None,
    ) -> None:
        self.output = Output(limits.output_bytes, on_output)
        self.usage = Usage()
        self.reason: Stop | None = None
        self.dead = threading.Event()
        self.wall_time_s = 0.0
        self._daemon = daemon
        self._container = container
        self._stream = stream
        self._meter = meter
        self._kernel = KernelGauge(meter.processes)
        self._limits = limits
        self._first = first
        self._before = Usage()
        self._broken: SandboxError | None = None
        self._began = self._deadline = 0.0
        self._next_sample = 0.0
        self._reading = True
        self._drain = True
        self._to_mark: FirstProcess | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._killer: threading.Thread | None = None
        self._wake, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(stream, selectors.EVENT_READ, self._read)
        self._selector.register(self._woken, selectors.EVENT_READ, self._heed)
        if first is not None:
            self._selector.register(first, selectors.EVENT_READ, self._first_died)
        self._thread = threading.Thread(target=self._run, name="docker-watch", daemon=True)

    def begin(self) -> None:
        """Start to watch; time and usage count from now."""
        self._meter.forget_peak()
        self._before = self._meter.sample() or Usage()
        self._began = time.monotonic()
        self._deadline = self._began + self._limits.wall_time_kill_s
        self._thread.start()

    def stop(self, reason: Stop) -> None:
        """Kill the container; the first reason counts. Idempotent."""
        with self._lock:
            if self.reason is not None or self._ended.is_set():
                return
            self.reason = reason
            # Not in the watching thread: Docker answers once the container is dead, which
            # may wait for output to be read.
            self._killer = threading.Thread(target=self._kill, name="docker-kill", daemon=True)
            self._killer.start()

    def ended(self, *, ran: bool, marked_by: FirstProcess | None = None) -> None:
        """Every process is dead: read what is left of the output, and stop to watch.

        Args:
            ran: without a run there is no output, nor an end of it.
            marked_by: who marks the end of the output; None: Docker closes it.

        Raises `SandboxError` when the watch itself broke.
        """
        with self._lock:
            self._ended.set()
            self._drain = ran
            self._to_mark = marked_by
        if not self.dead.is_set():
            self.wall_time_s = time.monotonic() - self._began
        self._wake.send(b".")
        self._thread.join()
        if self._killer is not None:
            self._killer.join()
        self._selector.close()
        self._wake.close()
        self._woken.close()
        if self._broken is not None:
            raise self._broken

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                self._turn(self._patience())
            until = time.monotonic() + _DRAIN_S
            while (
                self._drain
                and self._reading
                and not self.output.whole()
                and (left := until - time.monotonic()) > 0
            ):
                self._turn(left if self._marked() else _MARK_RETRY_S)
        except (OSError, SandboxError) as error:
            # A phase without its output has no result, and must not run unwatched.
            self._broken = SandboxError(f"the watch over a container broke: {error}")
            self.stop(Stop.KILLED)
            self.dead.set()  # The waiting thread learns the rest from Docker.

    def _marked(self) -> bool:
        """Mark the end of the output, if it is to be; False: try again when some was read."""
        if self._to_mark is not None:
            try:
                self.output.end_at(self._to_mark.mark())
            except BlockingIOError:
                return False
            self._to_mark = None
        return True

    def _turn(self, timeout_s: float | None) -> None:
        for key, _ in self._selector.select(timeout_s):
            key.data()
        if self._ended.is_set() or self.dead.is_set():
            return
        now = time.monotonic()
        if now >= self._deadline:
            self.stop(Stop.WALL_TIME)
        if now >= self._next_sample:
            self._sample()

    def _patience(self) -> float | None:
        if self.dead.is_set():
            return None
        times = [self._next_sample]
        if self.reason is None:
            times.append(self._deadline)
        return max(0.0, min(times) - time.monotonic())

    def _read(self) -> None:
        parts = self._stream.receive()
        if parts is None:
            self._reading = False
            self._selector.unregister(self._stream)
            if self._first is not None and not self._first.ended():
                # We hold the output open, so an early end means that the daemon is gone.
                raise SandboxError("Docker hung up on a running container")
            return
        for stream, data in parts:
            self.output.add(stream, data)
        if self.output.exceeded:
            self.stop(Stop.OUTPUT)

    def _heed(self) -> None:
        self._woken.recv(64)

    def _sample(self) -> None:
        now = time.monotonic()
        usage = self._meter.sample()
        pause = self._meter.settle_s
        if usage is not None:
            self.usage = usage.since(self._before)
            left = self._limits.cpu_time_kill_s - self.usage.cpu_time_s
            if left <= 0:
                self.stop(Stop.CPU_TIME)
            if self._kernel.exceeded(self.usage.cpu_time_s):
                self.stop(Stop.KERNEL_MEMORY)
            # Often where it can matter soon, and at first: what a busy host makes us miss
            # of the end is then a small part of the whole.
            age = now - self._began
            pause = max(pause, min(self._meter.period_s, left / self._limits.cpus, age * _GRAIN))
        self._next_sample = time.monotonic() + pause

    def _first_died(self) -> None:
        """Read the final usage between the end of the first process and that of the cgroup."""
        self.wall_time_s = time.monotonic() - self._began
        if (usage := self._meter.sample()) is not None:
            self.usage = usage.since(self._before)
        if self._first is not None:
            self._selector.unregister(self._first)
        self.dead.set()

    def _kill(self) -> None:
        """Kill it repeatedly until nothing of it runs."""
        try:
            while not self._daemon.kill(self._container) and not self._ended.wait(_KILL_RETRY_S):
                pass
        except SandboxError as error:
            log.warning("docker.kill.failed", container=self._container, error=error.message)
