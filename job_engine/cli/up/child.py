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
"""A child that lived this long starts again at the first back-off: it had started, and was
killed, or met with something that came later."""


class Output:
    """Standard output, shared by all children: whole lines, each with its child's name."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stdout
        self._lock = threading.Lock()
        self._coloured = self._stream.isatty() and "NO_COLOR" not in os.environ
        self._names: list[str] = []

    def say(self, text: str = "") -> None:
        """Print what the supervisor itself has to say."""
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
                # The disk that it goes to is full, for one. The line is lost, and nothing else:
                # a child whose output nobody reads would hang.
                return
            # The terminal was closed, or who read the pipe is gone: the engine still has to
            # stop in order, unheard. Python would try to flush the rest at its end, too.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


class Child:
    """A process that is meant to run until it is told to stop.

    `finishes` says that it may also end by itself, with exit code 0, and is then left alone.
    It inherits the descriptors that it `holds`, and so a lock on them.
    All methods are for one thread, which has to live as long as the child: it dies with it.
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
        """Of the process that ended; negative: the signal that ended it."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start the process, in a session of its own: a Ctrl-C is for the supervisor."""
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
        except OSError as error:  # no memory, no process or no descriptor is to be had
            self._output.line(
                self.name, f"cannot start: {error.strerror}; again in {self._backoff_s:.0f} s"
            )
            self._restart_at = now + self._backoff_s
            self._backoff_s = min(2 * self._backoff_s, MAX_BACKOFF_S)

    def terminate(self) -> None:
        """Ask the process to stop; a second time means: at once."""
        if self._process is not None and self.alive:
            self._process.terminate()

    def kill(self) -> None:
        """End the process without a word."""
        if self._process is not None and self.alive:
            self._process.kill()

    def release(self) -> None:
        """Wait for the process that was told to stop, and for its last output."""
        if self._process is not None:
            self._process.wait()
            self._join()
            self._process = None

    def _join(self) -> None:
        # A grandchild may hold the pipe open; its output is not worth waiting for.
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
