"""Watches one running container: its output, its time, its use, and the order to stop."""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from enum import Enum, auto
from typing import Final

from job_engine.errors import SandboxError
from job_engine.log import get_logger
from job_engine.sandbox.base import Limits
from job_engine.sandbox.docker.attach import STDOUT, AttachedStream
from job_engine.sandbox.docker.daemon import Daemon
from job_engine.sandbox.docker.meter import Meter, Usage

_DRAIN_S: Final = 10.0
"""Longest that output may go on to arrive once every process is dead."""
_GRAIN: Final = 0.05
"""Between two samples, at most this part of the time that the container has run."""
_KILL_RETRY_S: Final = 0.02

log = get_logger(__name__)


class Stop(Enum):
    """Why the engine ended a container."""

    KILLED = auto()
    OUTPUT = auto()
    WALL_TIME = auto()
    CPU_TIME = auto()
    DISK = auto()


class Output:
    """Standard output and error, of which no more is kept than the limit."""

    def __init__(self, limit_bytes: int) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.exceeded = False
        self._left = limit_bytes

    def add(self, stream: int, data: bytes) -> None:
        """Keep what still fits."""
        kept = data[: self._left]
        self.exceeded = self.exceeded or len(kept) < len(data)
        self._left -= len(kept)
        (self.stdout if stream == STDOUT else self.stderr).extend(kept)


class Watch:
    """A thread beside the one that starts the container and waits for it.

    The order: `begin`, start the container, `started`, wait for it, `ended`. `stop` may
    come at any time and from any thread.
    """

    def __init__(
        self, daemon: Daemon, container: str, stream: AttachedStream, meter: Meter, limits: Limits
    ) -> None:
        self.output = Output(limits.output_bytes)
        self.usage = Usage()
        self.reason: Stop | None = None
        self._daemon = daemon
        self._container = container
        self._stream = stream
        self._meter = meter
        self._limits = limits
        self._broken: SandboxError | None = None
        self._started: float | None = None
        self._deadline: float | None = None
        self._next_sample = 0.0
        self._first: int | None = None
        self._reading = True
        self._drain = True
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._killer: threading.Thread | None = None
        self._wake, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(stream, selectors.EVENT_READ, self._read)
        self._selector.register(self._woken, selectors.EVENT_READ, self._heed)
        self._thread = threading.Thread(target=self._run, name="docker-watch", daemon=True)

    def begin(self) -> None:
        """Start to watch; nothing of the container's life is missed from here on."""
        self._thread.start()

    def started(self) -> None:
        """The container runs: its wall time counts from now."""
        self._started = time.monotonic()
        self._deadline = self._started + self._limits.wall_time_s
        self._wake.send(b".")

    def stop(self, reason: Stop) -> None:
        """Kill the container, as soon as it runs; the first reason stands. Idempotent."""
        with self._lock:
            if self.reason is not None or self._ended.is_set():
                return
            self.reason = reason
            # Not in the watching thread: Docker answers once the container is dead, which
            # may wait for output to be read.
            self._killer = threading.Thread(target=self._kill, name="docker-kill", daemon=True)
            self._killer.start()

    def ended(self, *, ran: bool) -> None:
        """Every process is dead: read what is left of the output, and stop to watch.

        Without a run there is no output, nor an end of it. Raises `SandboxError` when the
        watch itself broke.
        """
        with self._lock:
            self._ended.set()
            self._drain = ran
        self._wake.send(b".")
        self._thread.join()
        if self._killer is not None:
            self._killer.join()
        self._forget_first()
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
            while self._drain and self._reading and (left := until - time.monotonic()) > 0:
                self._turn(left)
        except (OSError, SandboxError) as error:
            # A phase whose output is lost has no result; nor may it run on unwatched.
            self._broken = SandboxError(f"the watch over a container broke: {error}")
            self.stop(Stop.KILLED)

    def _turn(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            key.data()
        now = time.monotonic()
        if self._deadline is not None and now >= self._deadline:
            self.stop(Stop.WALL_TIME)
        if now >= self._next_sample and not self._ended.is_set():
            self._sample()

    def _patience(self) -> float:
        times = [self._next_sample]
        if self._deadline is not None and self.reason is None:
            times.append(self._deadline)
        return max(0.0, min(times) - time.monotonic())

    def _read(self) -> None:
        parts = self._stream.receive()
        if parts is None:
            self._reading = False
            self._selector.unregister(self._stream)
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
            self.usage = usage
            left = self._limits.cpu_time_s - usage.cpu_time_s
            if left <= 0:
                self.stop(Stop.CPU_TIME)
            # Often where it can matter soon, and at first: what a busy host makes us miss
            # of the end is then a small part of the whole.
            age = now - self._started if self._started is not None else 0.0
            pause = max(pause, min(self._meter.period_s, left / self._limits.cpus, age * _GRAIN))
        if self._first is None:
            self._first = self._meter.first_process()
            if self._first is not None:
                self._selector.register(self._first, selectors.EVENT_READ, self._first_died)
        self._next_sample = time.monotonic() + pause

    def _first_died(self) -> None:
        """Read the final numbers, in the moment between this death and the cgroup's end."""
        self.usage = self._meter.sample() or self.usage
        self._forget_first()
        # Or it was one of the runtime's own, and there is another to find.
        self._next_sample = 0.0

    def _forget_first(self) -> None:
        first, self._first = self._first, None
        if first is not None:
            self._selector.unregister(first)
            os.close(first)

    def _kill(self) -> None:
        """Kill it; while Docker still starts it, there is nothing to kill yet."""
        try:
            while not self._daemon.kill(self._container) and not self._ended.wait(_KILL_RETRY_S):
                pass
        except SandboxError as error:
            log.warning("docker.kill.failed", container=self._container, error=error.message)
