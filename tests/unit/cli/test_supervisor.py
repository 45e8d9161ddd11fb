"""The supervisor: starts in order, stops in the opposite one, hurries when told twice."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from job_engine.cli.up.child import Child, Output
from job_engine.cli.up.supervisor import StartFailedError, Stopped, Supervisor
from job_engine.queue.local import LocalZooKeeper

OBEDIENT = """
import pathlib, signal, sys
def stop(*_):
    print("stopping", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("started", flush=True)
pathlib.Path(sys.argv[1]).touch()
while True:
    signal.pause()
"""

STUBBORN = """
import pathlib, signal, sys
heard = []
def stop(*_):
    heard.append(1)
    print("heard", len(heard), flush=True)
    if len(heard) == 2:
        sys.exit(0)
signal.signal(signal.SIGTERM, stop)
pathlib.Path(sys.argv[1]).touch()
while True:
    signal.pause()
"""


class Stage:
    """Children that say when they are there, and a place that collects what they print."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.text = io.StringIO()
        self.output = Output(self.text)
        self.supervisor = Supervisor(self.output)

    def child(self, name: str, code: str = OBEDIENT, stop_timeout_s: float = 10.0) -> Child:
        command = [sys.executable, "-u", "-c", code, str(self.directory / name)]
        return Child(name, command, os.environ, self.output, stop_timeout_s=stop_timeout_s)

    def start(self, child: Child) -> None:
        here = self.directory / child.name
        self.supervisor.start([child], here.exists, 10.0)

    def lines(self) -> list[str]:
        return [" ".join(line.split()) for line in self.text.getvalue().splitlines()]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_layers_stop_in_the_opposite_order(stage: Stage) -> None:
    for name in ("api", "distributor", "executor"):
        stage.start(stage.child(name))
    stage.supervisor.stop()
    stops = [line for line in stage.lines() if line.endswith("stopping")]
    assert stops == ["executor | stopping", "distributor | stopping", "api | stopping"]


def test_a_signal_ends_the_run(stage: Stage) -> None:
    stage.start(stage.child("api"))
    with stage.supervisor.signals():
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        stage.supervisor.run()
    stage.supervisor.stop()
    assert "api | stopping" in stage.lines()


def test_a_second_signal_hurries(stage: Stage) -> None:
    stage.start(stage.child("executor", STUBBORN))
    with stage.supervisor.signals():
        os.kill(os.getpid(), signal.SIGTERM)

        def hurry() -> None:
            while "executor | heard 1" not in stage.lines():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=hurry).start()
        stage.supervisor.stop()
    assert "executor | heard 2" in stage.lines()


def test_one_that_will_not_stop_is_killed_in_the_end(stage: Stage) -> None:
    child = stage.child("executor", STUBBORN, stop_timeout_s=0.3)
    stage.start(child)
    stage.supervisor.stop()
    assert not child.alive


def test_a_child_that_ends_before_it_is_ready_fails_the_start(stage: Stage) -> None:
    child = stage.child("api", "raise SystemExit('no such thing')")
    with pytest.raises(StartFailedError, match="api ended with exit code 1"):
        stage.supervisor.start([child], lambda: False, 10.0)
    stage.supervisor.stop()


def test_a_child_that_is_never_ready_fails_the_start(stage: Stage) -> None:
    with pytest.raises(StartFailedError, match="not ready"):
        stage.supervisor.start([stage.child("api")], lambda: False, 0.3)
    stage.supervisor.stop()


def test_a_signal_during_the_start_stops_it(stage: Stage) -> None:
    with stage.supervisor.signals():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Stopped):
            stage.supervisor.start([stage.child("api")], lambda: False, 10.0)
        stage.supervisor.stop()


class FullDisk(LocalZooKeeper):
    """A server that starts once, dies, and finds no room to start again."""

    starts = 0

    def start(self, timeout_s: float = 30.0) -> None:
        self.starts += 1
        if self.starts > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_zookeeper_that_cannot_start_ends_nothing_else(stage: Stage, tmp_path: Path) -> None:
    stage.start(stage.child("api"))
    stage.supervisor.start_zookeeper(FullDisk(tmp_path / "zookeeper"))
    with stage.supervisor.signals():
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
        stage.supervisor.run()
    stage.supervisor.stop()
    assert "api | stopping" in stage.lines()
    assert len([line for line in stage.lines() if "No space left" in line]) == 1
