"""A ZooKeeper that nobody else watches, and executors that stand in line on it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from job_engine.errors import JobEngineError
from job_engine.queue.local import LocalZooKeeper, ask
from tests.conftest import require
from tests.contract.queue.line.support import (
    SOON_S,
    Idle,
    Join,
    Placed,
    Watches,
    standing,
)
from tests.support.engine import eventually


@pytest.fixture(scope="module")
def zookeeper_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that nobody else sets watches on."""
    server = LocalZooKeeper(tmp_path_factory.mktemp("zookeeper"), sync=False)
    try:
        server.start()
    except JobEngineError as error:
        require(False, error.message)
    yield server.hosts
    server.stop()


@pytest.fixture
def watches(zookeeper_server: str) -> Watches:
    """How many watches the server keeps, of all sessions."""
    host, _, port = zookeeper_server.partition(":")

    def count() -> int:
        # Not `wchs`, which leaves out the watches on children.
        found = re.search(r"zk_watch_count\t(\d+)", ask(host, int(port), "mntr"))
        assert found
        return int(found[1])

    return count


@pytest.fixture
def idle(join: Join) -> Iterator[Callable[..., Idle]]:
    """Start idle executors by name; they stand in line, in this order, when it returns."""
    started: list[Idle] = []

    def start(name: str, **how: Any) -> Idle:
        member = join(name)
        before = len(standing(member.session.client))
        started.append(Idle(member, **how).start())
        eventually(lambda: len(standing(member.session.client)) == before + 1, SOON_S)
        return started[-1]

    yield start
    for executor in started:
        executor.stop()


@pytest.fixture
def line(join: Join) -> Callable[[str], list[Placed]]:
    """Sessions that stand in line in this order."""
    return lambda names: [Placed(join(name)).stand() for name in names]
