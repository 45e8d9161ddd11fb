"""One supervised child process: its output with a prefix, restarted when it dies."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Final

from job_engine.queue.local import die_with_parent

COLOURS: Final = (36, 35, 34, 33, 32)
FIRST_BACKOFF_S: Final = 1.0
MAX_BACKOFF_S: Final = 30.0
HEALTHY_AFTER_S: Final = 10.0
"""Seconds of life after which a child's back-off starts anew, because its start was successful."""


class Output:
    """Standard output, shared by all children: whole lines, each with its child's name."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stdout
        self._lock = threading.Lock()
        self._coloured = self._stream.isatty() and "NO_COLOR" not in os.environ
        self._names: list[str] = []

    def say(self, text: str = "") -> None:
        """Print a message of the supervisor itself."""
        with self._lock:
            self._print(text)

    def line(self, name: str, text: str) -> None:
        """Print a line of a child."""
        with self._lock:
            if name not in self._names:
                self._names.append(name)
            head = f"{name:<12}|"
            if self._coloured:
                colour = COLOURS[self._names.index(name) % len(COLOURS)]
                head = f"\x1b[{colour}m{head}\x1b[0m"
            self._print(f"{head} {text}")

    def _print(self, text: str) -> None:
        try:
            print(text, file=self._stream, flush=True)
        except OSError as error:
            if error.errno not in (errno.EIO, errno.EPIPE):
                # For instance, the disk is full. Only the line is lost: if reading stopped, the
                # child would hang.
                return
            # The terminal or the pipe was closed. The engine still has to stop in order, without
            # output. At its end Python would try to flush the rest too.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


class Child:
    """A process that runs until it is stopped, and is started again if it ends before.

    With `finishes` it may also end by itself with exit code 0, and is not started again. It
    inherits the descriptors in `holds`, and with them the locks on these files. All methods are
    for one thread, which has to live as long as the child, because the child ends with it.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        output: Output,
        *,
        stop_timeout_s: float,
        finishes: bool = False,
        holds: Sequence[int] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.stop_timeout_s = stop_timeout_s
        self._command = tuple(command)
        self._environment = dict(environment)
        self._output = output
        self._finishes = finishes
        self._holds = tuple(holds)
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._started_at = 0.0
        self._backoff_s = FIRST_BACKOFF_S
        self._restart_at: float | None = None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Exit code of the ended process; negative: the signal that ended it."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start the process in its own session, so that Ctrl-C reaches the supervisor only."""
        self._process = subprocess.Popen(
            die_with_parent(self._command),
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=self._holds,
        )
        self._started_at = self._clock()
        self._restart_at = None
        assert self._process.stdout is not None
        self._reader = threading.Thread(
            target=self._read, args=(self._process.stdout,), name=f"{self.name}-output", daemon=True
        )
        self._reader.start()

    def tend(self) -> None:
        """Start the process again when it died and its back-off is over."""
        if self._process is None or self.alive:
            return
        now = self._clock()
        if self._restart_at is None:
            self._join()
            if self._finishes and self.exit_code == 0:
                self._output.line(self.name, "has stopped, as it was asked to")
                self._process = None
                return
            if now - self._started_at >= HEALTHY_AFTER_S:
                self._backoff_s = FIRST_BACKOFF_S
            self._output.line(
                self.name, f"{describe_exit(self.exit_code)}; again in {self._backoff_s:.0f} s"
            )
            self._restart_at = now + self._backoff_s
            self._backoff_s = min(2 * self._backoff_s, MAX_BACKOFF_S)
        elif now >= self._restart_at:
            self._start_again(now)

    def _start_again(self, now: float) -> None:
        try:
            self.start()
        except OSError as error:  # out of memory, processes or descriptors
            self._output.line(
                self.name, f"cannot start: {error.strerror}; again in {self._backoff_s:.0f} s"
            )
            self._restart_at = now + self._backoff_s
            self._backoff_s = min(2 * self._backoff_s, MAX_BACKOFF_S)

    def terminate(self) -> None:
        """Ask the process to stop; a second call asks it to skip the waiting."""
        if self._process is not None and self.alive:
            self._process.terminate()

    def kill(self) -> None:
        """Kill the process."""
        if self._process is not None and self.alive:
            self._process.kill()

    def release(self) -> None:
        """Wait for the end of the process, and for its last output."""
        if self._process is not None:
            self._process.wait()
            self._join()
            self._process = None

    def _join(self) -> None:
        # A grandchild may hold the pipe open, so this wait is bounded.
        if self._reader is not None:
            self._reader.join(1.0)

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                self._output.line(self.name, line.decode(errors="replace").rstrip())


def describe_exit(code: int | None) -> str:
    """Say how a process ended."""
    if code is not None and code < 0:
        return f"was killed by signal {-code}"
    return f"ended with exit code {code}"
