"""Runs the student's program once, on one input."""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import time
from typing import IO, Any, NamedTuple

Rules = dict[str, Any]
_LAST_SIGNAL = 64


class NotStartedError(Exception):
    """The program of the submission cannot be started."""


class Run(NamedTuple):
    """One run of the program."""

    output: bytes
    problem: str | None = None
    """What was wrong with its end."""
    ended: str = ""
    """The verdict of a bad end."""
    code: int | None = None
    """Its exit code, below 0 for a signal; None if it was ended here."""

    @property
    def signal(self) -> int:
        """The signal that ended it; 0 for none.

        A program in a sandbox of its own, or behind a shell, gives 128 and the signal's number.
        """
        code = self.code or 0
        if code < 0:
            return -code
        return code - 128 if 128 < code <= 128 + _LAST_SIGNAL else 0


def launch(words: list[str], stdin: int, stdout: int) -> subprocess.Popen[bytes]:
    """Start the program; raises `NotStartedError` for one that cannot be."""
    try:
        return subprocess.Popen(words, stdin=stdin, stdout=stdout, stderr=subprocess.DEVNULL)
    except OSError as error:
        raise NotStartedError(f"cannot be run: {error.strerror}") from None


def start(words: list[str], stdin: bytes, rules: Rules) -> Run:
    """Run the program once, on one input."""
    process = launch(words, subprocess.PIPE, subprocess.PIPE)
    try:
        output, problem = talk(process, stdin, rules)
        if problem is not None:
            return Run(output, problem, "time-limit" if problem == late(rules) else "output-limit")
        code = process.wait(timeout=max(0.1, rules["time_s"]))
    except subprocess.TimeoutExpired:
        return Run(b"", late(rules), "time-limit")
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            close(stream)
    problem = wrong_end(code, rules)
    return Run(output, problem, "runtime-error" if problem else "", code)


def wrong_end(code: int, rules: Rules) -> str | None:
    """Return the problem with an exit code, if there is one."""
    wanted = rules["exit_code"]
    if wanted in ("any", code):
        return None
    return f"ended with exit code {code}" + ("" if not wanted else f", not {wanted}")


def talk(process: subprocess.Popen[bytes], stdin: bytes, rules: Rules) -> tuple[bytes, str | None]:
    """Write the input and read the output concurrently, up to the limits."""
    assert process.stdin is not None
    assert process.stdout is not None
    deadline = time.monotonic() + rules["time_s"]
    output = bytearray()
    left = memoryview(stdin)
    os.set_blocking(process.stdin.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if left:
            selector.register(process.stdin, selectors.EVENT_WRITE)
        else:
            close(process.stdin)
        while True:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return bytes(output), late(rules)
            for key, _ in selector.select(left_s):
                if key.fileobj is process.stdout:
                    data = os.read(process.stdout.fileno(), 65536)
                    if not data:
                        return bytes(output), None
                    output += data
                    if len(output) > rules["output_bytes"]:
                        return bytes(output), f"printed more than {rules['output_bytes']:,} bytes"
                    continue
                left = feed(process.stdin, left)
                if not left:
                    selector.unregister(process.stdin)
                    close(process.stdin)


def feed(stream: IO[bytes], left: memoryview) -> memoryview:
    """Write as much as the pipe takes; return the rest, empty once the program has closed it."""
    try:
        return left[os.write(stream.fileno(), left[:65536]) :]
    except BlockingIOError:
        return left
    except OSError:
        return left[:0]


def close(stream: IO[bytes] | None) -> None:
    """Close a pipe, also one whose other end is closed."""
    with contextlib.suppress(OSError):
        if stream is not None:
            stream.close()


def late(rules: Rules) -> str:
    """Return the problem of a run that took too long."""
    return f"no end within {rules['time_s']:g} s"
