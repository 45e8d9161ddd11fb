"""Real peers: releases of `nuvla-api` as they are, and an engine whose queue is shared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from kazoo.client import KazooClient

from tests.compat.clients.environment import VERSIONS, released
from tests.compat.clients.recorder import Recorder
from tests.compat.clients.remote import Remote
from tests.conftest import zookeeper_tree
from tests.databases import BACKENDS, database
from tests.support.engine import Engine

FOREIGN_ACTIONS: Final = [
    *("foreign", "foreign_too", "bulk_foreign"),
    *("monitor_bulk_job", "cancel_children_jobs", "cleanup_jobs"),
]
"""What the distributor pushes, though no executor of ours has it."""


@pytest.fixture(scope="module")
def zookeeper(zookeeper_server: str) -> Iterator[str]:
    """`host:port/chroot`: a ZooKeeper tree of the module's own."""
    with zookeeper_tree(zookeeper_server) as hosts:
        yield hosts


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


# --- releases of nuvla-api ---------------------------------------------------------


@pytest.fixture(scope="session", params=BACKENDS)
def api_process(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """An API in a process of its own, which believes the header of who comes from loopback."""
    directory = tmp_path_factory.mktemp("clients")
    # Nothing here needs a queue; the API itself does not talk to ZooKeeper.
    with (
        database(request, request.param, directory) as url,
        Engine(directory, "127.0.0.1:1") as engine,
    ):
        engine.start_api(database_url=url, trusted_peers=["127.0.0.1"], log_level="WARNING")
        yield engine


@pytest.fixture(scope="session", params=VERSIONS)
def interpreter(request: pytest.FixtureRequest) -> tuple[str, Path]:
    """A release of `nuvla-api`, and the interpreter that has it."""
    return request.param, released("nuvla-api", request.param)


@pytest.fixture(scope="session")
def client_process(
    interpreter: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Remote]:
    """A process that has that release, for all tests: starting it takes longer than most."""
    version, python = interpreter
    with Remote(python, version, tmp_path_factory.mktemp("home")) as remote:
        yield remote


@pytest.fixture
def client(client_process: Remote, api_process: Engine) -> Iterator[Remote]:
    """A client that nobody has logged in with yet, whose requests are written down."""
    with Recorder(api_process.url) as wire:
        client_process.wire = wire
        client_process.connect()
        yield client_process
