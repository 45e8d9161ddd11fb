"""Sessions, each with its own registration, on a ZooKeeper tree of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from kazoo.client import KazooClient

from job_engine.queue import (
    Registration,
    ZooKeeperClaimQueue,
    ZooKeeperPushQueue,
    ZooKeeperSession,
    layout,
)

SESSION_TIMEOUT_S = 2.0


@dataclass
class Member:
    """A process of the engine, as far as the queue is concerned."""

    session: ZooKeeperSession
    claims: ZooKeeperClaimQueue
    pushes: ZooKeeperPushQueue
    registration: Registration

    def push(self, *jobs: str, priority: int = 999) -> list[str]:
        """Push as a leader would; the own executor node serves as the guard."""
        return self.pushes.push(self.registration.node, [(job, priority) for job in jobs])

    def claim(self, limit: int = 1) -> list[str]:
        """Claim, and return the job ids."""
        return [c.job_id for c in self.claims.claim(self.registration, limit, lambda _: False)]


@pytest.fixture
def zk(zk_hosts: str) -> Iterator[KazooClient]:
    """A plain kazoo client on the test's tree, with an incarnation drawn."""
    client = KazooClient(zk_hosts)
    client.start()
    client.ensure_path(layout.ENGINE)
    client.create(layout.INCARNATION, b"1")
    yield client
    client.stop()
    client.close()


@pytest.fixture
def join(zk_hosts: str, zk: KazooClient) -> Iterator[Callable[[str], Member]]:
    """Make members by name; their sessions end with the test."""
    sessions = []

    def make(name: str) -> Member:
        session = ZooKeeperSession(zk_hosts, SESSION_TIMEOUT_S)
        sessions.append(session)
        session.start()
        assert session.wait_alive(10)
        claims = ZooKeeperClaimQueue(session, "/job", name)
        pushes = ZooKeeperPushQueue(session, "/job", name)
        return Member(session, claims, pushes, claims.register({"name": name}))

    yield make
    for session in sessions:
        session.stop()
