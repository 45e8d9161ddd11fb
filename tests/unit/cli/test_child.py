"""A supervised child: its output, its end, its restarts."""

from __future__ import annotations

import io
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from job_engine.cli.up.child import FIRST_BACKOFF_S, HEALTHY_AFTER_S, Child, Output


class Clock:
    """Time as the test says."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


class Bench:
    """One child running a line of Python, and what it printed."""

    def __init__(self) -> None:
        self.text = io.StringIO()
        self.clock = Clock()
        self.made: list[Child] = []

    def child(self, code: str, *, finishes: bool = False) -> Child:
        child = Child(
            "child",
            [sys.executable, "-u", "-c", code],
            os.environ,
            Output(self.text),
            stop_timeout_s=5.0,
            finishes=finishes,
            clock=self.clock,
        )
        self.made.append(child)
        return child

    def dead(self, child: Child) -> None:
        until(lambda: not child.alive)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    for child in bench.made:
        child.kill()
        child.release()


def test_each_line_carries_the_name(bench: Bench) -> None:
    child = bench.child("print('one'); print('two')")
    child.start()
    bench.dead(child)
    child.release()
    assert bench.text.getvalue() == "child       | one\nchild       | two\n"


def test_a_dead_child_is_started_again_after_its_back_off(bench: Bench) -> None:
    child = bench.child("raise SystemExit(70)")
    child.start()
    bench.dead(child)
    child.tend()
    assert "ended with exit code 70; again in 1 s" in bench.text.getvalue()
    bench.clock.now += FIRST_BACKOFF_S / 2
    child.tend()
    assert not child.alive
    bench.clock.now += FIRST_BACKOFF_S
    child.tend()
    bench.dead(child)
    child.tend()
    assert "again in 2 s" in bench.text.getvalue()


def test_a_long_life_forgives_earlier_deaths(bench: Bench) -> None:
    child = bench.child("raise SystemExit(1)")
    child.start()
    bench.dead(child)
    child.tend()
    bench.clock.now += FIRST_BACKOFF_S
    child.tend()
    bench.dead(child)
    bench.clock.now += HEALTHY_AFTER_S
    child.tend()
    assert "again in 2 s" not in bench.text.getvalue()


def test_one_that_cannot_start_is_tried_again(bench: Bench) -> None:
    child = bench.child("raise SystemExit(1)")
    child.start()
    bench.dead(child)
    child.tend()
    bench.clock.now += FIRST_BACKOFF_S
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        child.tend()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "cannot start: Too many open files; again in 2 s" in bench.text.getvalue()
    bench.clock.now += 2 * FIRST_BACKOFF_S
    child.tend()
    bench.dead(child)
    child.tend()
    assert bench.text.getvalue().count("exit code 1") == 2


def test_a_full_disk_below_the_output_costs_only_lines() -> None:
    with Path("/dev/full").open("w") as full:
        output = Output(full)
        for _ in range(1000):
            output.line("api", 100 * "x")
        # Closing it would try once more to write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())


def test_one_that_may_finish_is_left_alone_after_exit_code_0(bench: Bench) -> None:
    child = bench.child("pass", finishes=True)
    child.start()
    bench.dead(child)
    child.tend()
    bench.clock.now += 100
    child.tend()
    assert not child.alive
    assert "has stopped" in bench.text.getvalue()


def test_one_that_has_to_run_is_started_again_after_exit_code_0(bench: Bench) -> None:
    child = bench.child("pass")
    child.start()
    bench.dead(child)
    child.tend()
    assert "again in 1 s" in bench.text.getvalue()


def test_a_child_dies_with_its_supervisor() -> None:
    """The supervisor is killed without a word; the kernel takes the child along."""
    code = (
        "import os, signal, sys\n"
        "from job_engine.cli.up.child import Child, Output\n"
        "child = Child('c', [sys.executable, '-c', 'import time; time.sleep(60)'],"
        " os.environ, Output(sys.stderr), stop_timeout_s=1)\n"
        "child.start()\n"
        "print(child._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    import subprocess

    import psutil

    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    pid = int(printed.stdout)

    def gone() -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    until(gone)
