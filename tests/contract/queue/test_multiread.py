"""Reading many nodes with one request, from a real ZooKeeper."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from job_engine.errors import QueueError
from job_engine.queue import ZooKeeperSession
from job_engine.queue.multiread import Reading


@pytest.fixture
def session(zk_hosts: str) -> Iterator[ZooKeeperSession]:
    """A session below a root of the test's own."""
    made = ZooKeeperSession(zk_hosts, 10.0)
    made.start()
    assert made.wait_alive(10)
    yield made
    made.stop()


def test_nodes_are_read_in_order_with_their_stat_and_none_for_missing_ones(
    session: ZooKeeperSession,
) -> None:
    client = session.client
    for name, data in (("/a", b"one"), ("/b", b""), ("/c", "drei €".encode())):
        client.create(name, data)
    client.create("/mine", b"x", ephemeral=True)
    nodes = Reading(client, ["/c", "/gone", "/a", "/mine", "/b"]).nodes()
    assert [node and node.data for node in nodes] == ["drei €".encode(), None, b"one", b"x", b""]
    for path, node in zip(["/c", "/a", "/mine", "/b"], filter(None, nodes), strict=True):
        assert node.stat == client.exists(path)


def test_a_read_is_answered_after_the_writes_before_it(session: ZooKeeperSession) -> None:
    client = session.client
    for n in range(20):
        client.create_async(f"/n{n}", str(n).encode())
    nodes = Reading(client, [f"/n{n}" for n in range(20)]).nodes()
    assert [node and node.data for node in nodes] == [str(n).encode() for n in range(20)]
    assert Reading(client, []).nodes() == []


def test_without_an_answer_nobody_knows(session: ZooKeeperSession) -> None:
    session.stop()
    with pytest.raises(QueueError):
        Reading(session.client, ["/a"]).nodes()
