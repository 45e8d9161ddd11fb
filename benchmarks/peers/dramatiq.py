"""dramatiq on Redis: two processes of eight threads, with its default middleware."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from benchmarks.servers import missing_redis, redis, wait_for

PROCESSES: Final = 2
THREADS: Final = 8
ROOT: Final = Path(__file__).resolve().parents[2]
ACTORS: Final = "benchmarks.peers.dramatiq_actors"

DURABILITY: Final = {True: "Redis appendfsync always", False: "Redis in memory, nothing on disk"}
"""What survives, by whether Redis syncs its log."""


def name(*, fsync: bool) -> str:
    """What this peer is called in figures."""
    return f"dramatiq, Redis {'appendfsync always' if fsync else 'in memory'}"


def missing() -> list[str]:
    """What has to be installed before this peer can be measured."""
    lacking = missing_redis()
    if any(importlib.util.find_spec(module) is None for module in ("dramatiq", "redis")):
        lacking.append("dramatiq is not installed. Try: pip install '.[bench]'")
    return lacking


@dataclass(frozen=True)
class Drained:
    """How a drain went."""

    per_s: float
    """From the first finished message to the last."""
    wall_s: float
    """From the start of the workers to the last."""


class Dramatiq:
    """One Redis and what sends to it and works for it."""

    def __init__(self, port: int) -> None:
        self._port = port

    @property
    def environment(self) -> dict[str, str]:
        """What the processes are told."""
        return {
            **os.environ,
            "BENCHMARK_REDIS": f"redis://127.0.0.1:{self._port}/0",
            "PYTHONPATH": str(ROOT),
        }

    def send(self, messages: int) -> float:
        """Send no-ops, one by one as its API has it; returns the seconds that took."""
        done = subprocess.run(
            [sys.executable, "-m", ACTORS, str(messages)],
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
        )
        return float(done.stdout)

    @contextmanager
    def sender(self) -> Iterator[Callable[[Path], float]]:
        """A process that sends one `mark` for each file asked for, and says when it had."""
        process = subprocess.Popen(
            [sys.executable, "-m", ACTORS],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        to, back = process.stdin, process.stdout
        assert to is not None
        assert back is not None

        def send(file: Path) -> float:
            to.write(f"{file}\n")
            to.flush()
            return float(back.readline())

        try:
            yield send
        finally:
            to.close()
            process.wait()
            back.close()

    @contextmanager
    def workers(self) -> Iterator[int]:
        """Run the workers; yields the process id of the first."""
        command = ["dramatiq", ACTORS, "--processes", str(PROCESSES), "--threads", str(THREADS)]
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield process.pid
        finally:
            process.terminate()
            process.wait()

    @cached_property
    def _client(self) -> Any:
        import redis as client

        return client.Redis(port=self._port)

    def left(self) -> int:
        """How many messages are not acknowledged."""
        return int(self._client.hlen("dramatiq:default.msgs"))

    def drain(self, messages: int) -> Drained:
        """Send no-ops, then start the workers and wait until the last is acknowledged."""
        self.send(messages)
        started = time.monotonic()
        with self.workers():
            wait_for(lambda: self.left() < messages, 60, "a first message", every_s=0.005)
            before, first = self.left(), time.monotonic()
            wait_for(lambda: self.left() == 0, 1800, "dramatiq to drain", every_s=0.01)
            ended = time.monotonic()
        return Drained(before / (ended - first), ended - started)


@contextmanager
def dramatiq(*, fsync: bool) -> Iterator[Dramatiq]:
    """dramatiq on a Redis of its own."""
    with redis(fsync=fsync) as port:
        yield Dramatiq(port)
