"""An engine whose queue is shared: its API and its distributor, over a real ZooKeeper."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Final

import pytest
from kazoo.client import KazooClient

from tests.support.engine import Engine

FOREIGN_ACTIONS: Final = [
    *("foreign", "foreign_too", "bulk_foreign"),
    *("monitor_bulk_job", "cancel_children_jobs", "cleanup_jobs"),
]
"""What the distributor pushes, though no executor of ours has it."""


@pytest.fixture(scope="module")
def zookeeper(zookeeper_server: str) -> Iterator[str]:
    """`host:port/chroot`: a ZooKeeper tree of the module's own."""
    chroot = f"/compat-{uuid.uuid4().hex}"
    client = KazooClient(zookeeper_server)
    client.start()
    try:
        client.create(chroot)
        yield zookeeper_server + chroot
        client.delete(chroot, recursive=True)
    finally:
        client.stop()
        client.close()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, zookeeper: str) -> Iterator[Engine]:
    """An API that believes the headers of this machine, a distributor, and no executor."""
    with Engine(tmp_path_factory.mktemp("engine"), zookeeper) as running:
        running.start_api(trusted_peers=["127.0.0.1"])
        running.start_distributor(foreign_actions=FOREIGN_ACTIONS, reconcile_s=2.0)
        yield running


@pytest.fixture(scope="module")
def nodes(zookeeper: str) -> Iterator[KazooClient]:
    """A client that looks at the engine's ZooKeeper tree."""
    client = KazooClient(zookeeper)
    client.start()
    for path in ("/job/entries", "/job/taken", "/executors"):
        client.ensure_path(path)
    yield client
    client.stop()
    client.close()
