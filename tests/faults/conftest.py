"""What tests of faults share: a ZooKeeper to be ill-treated, and the seed of the test-bed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from job_engine.errors import JobEngineError
from job_engine.queue.local import LocalZooKeeper
from tests.conftest import require


@pytest.fixture
def zookeeper(tmp_path: Path) -> Iterator[LocalZooKeeper]:
    """A ZooKeeper of the test's own, to be stopped, paused and wiped."""
    server = LocalZooKeeper(tmp_path / "zookeeper", sync=False)
    try:
        server.start()
    except JobEngineError as error:
        require(False, error.message)
    yield server
    if server.pid is not None:
        os.kill(server.pid, signal.SIGCONT)
    server.stop()
