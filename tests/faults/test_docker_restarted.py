"""A Docker daemon is killed, or restarted as an operator does it, while slots run in it."""

from __future__ import annotations

import gc
import os
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from job_engine.errors import SandboxError
from job_engine.sandbox.base import Inputs, Limits, PhaseResult, PhaseSpec, Sandbox
from job_engine.sandbox.factory import make_sandbox
from job_engine.settings import SandboxSettings
from tests.conftest import require
from tests.faults.bed.boxes import BUSYBOX, IMAGE, PROGRAM, Boxes
from tests.faults.bed.docker import DockerDaemon, has_docker
from tests.support.engine import eventually
from tests.support.trace import read_trace

pytestmark = [
    pytest.mark.docker,
    # docker-py leaves broken connections to the garbage collector, which may come at any time.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

SLOTS = 3
LONG_S = 600


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    file = tmp_path / "trace"
    file.touch()
    return file


@pytest.fixture
def daemon(tmp_path: Path, trace: Path) -> Iterator[DockerDaemon]:
    require(os.geteuid() == 0, "needs root")
    require(has_docker() and BUSYBOX.exists(), "needs dockerd and busybox-static")
    with Boxes(tmp_path, trace) as boxes, DockerDaemon(tmp_path, boxes) as started:
        yield started


@pytest.fixture
def sandbox(daemon: DockerDaemon) -> Iterator[Sandbox]:
    settings = SandboxSettings(sandbox="docker", docker_url=daemon.url, default_image=IMAGE)
    made = make_sandbox(settings)
    yield made
    made.close()
    with warnings.catch_warnings():
        # docker-py leaves broken connections to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def run(sandbox: Sandbox, number: int, begun: threading.Semaphore, seconds: int) -> PhaseResult:
    """Run the tracing program in a slot of its own, and destroy that."""
    command = ("/bin/sh", PROGRAM, f"job/{number}", "1", f"{100 * seconds}", "0")
    phase = PhaseSpec(
        name="run", command=command, limits=Limits(wall_time_s=LONG_S), mounts=(), workdir="/"
    )
    slot = sandbox.prepare(label="test", phases=(phase,), trees=())
    try:
        slot.go(Inputs(trees={}, stdin={}))
        for event in slot.collect():
            if isinstance(event, PhaseResult):
                return event
            begun.release()
        raise AssertionError("no result")
    finally:
        slot.destroy()


@pytest.mark.parametrize("how", [DockerDaemon.kill, DockerDaemon.terminate])
def test_a_daemon_that_goes_away_is_no_verdict(
    how: object, daemon: DockerDaemon, sandbox: Sandbox, trace: Path
) -> None:
    """No program is said to have been killed, and nothing of the slots is left."""
    assert callable(how)
    begun = threading.Semaphore(0)
    with ThreadPoolExecutor(SLOTS) as threads:
        # Leaves connections behind, on which a daemon that stops still tells of its dead.
        for done in [threads.submit(run, sandbox, n, begun, 0) for n in range(SLOTS)]:
            assert done.result().exit_code == 0
        runs = [threads.submit(run, sandbox, SLOTS + n, begun, LONG_S) for n in range(SLOTS)]
        for _ in range(2 * SLOTS):
            assert begun.acquire(timeout=120)
        eventually(lambda: len(read_trace(trace)) == 2 * SLOTS, 120)
        how(daemon)
        for failed in runs:
            assert isinstance(failed.exception(120), SandboxError)
    daemon.start()
    eventually(lambda: not daemon.left(), 120, "nothing is left of the slots")
    assert not any(found[0].ended for job, found in read_trace(trace).items() if job > "job/2")
    assert run(sandbox, 9, begun, 0).exit_code == 0
