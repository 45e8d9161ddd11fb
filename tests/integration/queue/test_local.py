"""The local ZooKeeper: starts, keeps its data, says what is wrong, leaves nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from kazoo.client import KazooClient

from job_engine.errors import MissingDependencyError, QueueError
from job_engine.queue.local import LocalZooKeeper, find_zookeeper
from tests.conftest import require

pytestmark = pytest.mark.zookeeper


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalZooKeeper]:
    try:
        find_zookeeper()
    except MissingDependencyError as error:
        require(False, error.message)
    server = LocalZooKeeper(tmp_path, sync=False)
    yield server
    server.stop()


def write(hosts: str, path: str) -> None:
    client = KazooClient(hosts)
    client.start()
    try:
        client.ensure_path(path)
    finally:
        client.stop()
        client.close()


def exists(hosts: str, path: str) -> bool:
    client = KazooClient(hosts)
    client.start()
    try:
        return client.exists(path) is not None
    finally:
        client.stop()
        client.close()


def test_a_restart_keeps_port_and_data(server: LocalZooKeeper) -> None:
    server.start()
    hosts = server.hosts
    write(hosts, "/kept")
    server.stop()
    assert not server.running()
    server.start()
    assert server.hosts == hosts
    assert exists(hosts, "/kept")


def test_a_session_may_be_two_ticks_short(server: LocalZooKeeper) -> None:
    server.start()
    client = KazooClient(server.hosts, timeout=1.0)
    client.start()
    try:
        assert client._session_timeout == 2 * server.tick_ms
    finally:
        client.stop()
        client.close()


def test_stop_ends_the_process(server: LocalZooKeeper) -> None:
    server.start()
    assert server.pid is not None
    process = psutil.Process(server.pid)
    server.stop()
    assert not process.is_running()
    assert server.pid is None


def test_a_taken_port_is_named_with_the_log(server: LocalZooKeeper) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server.port = taken.getsockname()[1]
        with pytest.raises(QueueError, match="Address already in use"):
            server.start()
    assert not server.running()


def test_a_missing_dependency_comes_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="apt-get install"):
        find_zookeeper()
