"""What dramatiq's workers import; and, run as a program, what sends to them.

    python -m benchmarks.peers.dramatiq_actors N

sends N messages to `noop` and prints how many seconds that took. Without N, it sends
one `mark` for each file name that it reads, and prints the monotonic time after each.
"""

from __future__ import annotations

import os
import sys
import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=os.environ["BENCHMARK_REDIS"]))


@dramatiq.actor  # type: ignore[untyped-decorator]
def noop() -> None:
    """Do nothing."""


@dramatiq.actor  # type: ignore[untyped-decorator]
def mark(file: str, name: str) -> None:
    """Append `<name> <monotonic seconds>` to the file, as the engine's own action does."""
    started_at = time.monotonic()
    sink = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(sink, f"{name} {started_at!r}\n".encode())
    finally:
        os.close(sink)


def _send_marks() -> None:
    for line in sys.stdin:
        mark.send(line.strip(), "message")
        sys.stdout.write(f"{time.monotonic()!r}\n")
        sys.stdout.flush()


def _send_noops(messages: int) -> None:
    began = time.perf_counter()
    for _ in range(messages):
        noop.send()
    sys.stdout.write(f"{time.perf_counter() - began}\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _send_noops(int(sys.argv[1]))
    else:
        _send_marks()
