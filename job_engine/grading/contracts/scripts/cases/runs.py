"""Runs the student's program once, on one input."""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import time
from typing import IO, Any

Rules = dict[str, Any]


def start(words: list[str], stdin: bytes, rules: Rules) -> tuple[bytes, str | None, str]:
    """Run the program once; return what it printed, and what was wrong and its verdict if so."""
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        output, problem = talk(process, stdin, rules)
        if problem is not None:
            return output, problem, "time-limit" if problem == late(rules) else "output-limit"
        code = process.wait(timeout=max(0.1, rules["time_s"]))
    except subprocess.TimeoutExpired:
        return b"", late(rules), "time-limit"
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            close(stream)
    problem = wrong_end(code, rules)
    return output, problem, "runtime-error" if problem else ""


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
