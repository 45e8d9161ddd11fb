"""Services that tests need: a running one is reused, else one is started, else skipped.

In CI (`CI` is set) nothing may be skipped for want of a service: `require` fails there.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from kazoo.client import KazooClient
from sqlalchemy import URL, make_url

from job_engine.errors import JobEngineError
from job_engine.queue.local import LocalZooKeeper
from job_engine.store.factory import open_store
from tests import postgres

TEST_ZOOKEEPER = os.environ.get("JOB_ENGINE_TEST_ZK", "")
TEST_POSTGRES = os.environ.get("JOB_ENGINE_TEST_POSTGRES", "")

# Nothing that happens to be set on a developer's machine may decide a test.
for _name in [name for name in os.environ if name.startswith("JOB_ENGINE_")]:
    del os.environ[_name]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let what was drawn by chance be drawn again."""
    parser.addoption(
        "--seed",
        type=int,
        help="seed of faults/test_overlapping.py or hostile/http/test_malformed.py",
    )


def require(condition: bool, reason: str) -> None:
    """Skip the test unless `condition` holds; in CI, fail it."""
    if condition:
        return
    if os.environ.get("CI"):
        pytest.fail(f"{reason} (in CI this is a failure)", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def zookeeper_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`host:port` of a ZooKeeper for the whole run, without a chroot."""
    if TEST_ZOOKEEPER:
        yield TEST_ZOOKEEPER
        return
    server = LocalZooKeeper(tmp_path_factory.mktemp("zookeeper"), sync=False)
    try:
        server.start()
    except JobEngineError as error:
        require(False, error.message)
    try:
        yield server.hosts
    finally:
        server.stop()


@contextmanager
def zookeeper_tree(server: str) -> Iterator[str]:
    """`host:port/chroot`: a tree of its own on a ZooKeeper, removed after it."""
    chroot = f"/test-{uuid.uuid4().hex}"
    client = KazooClient(server)
    client.start()
    try:
        client.create(chroot)
        yield server + chroot
        client.delete(chroot, recursive=True)
    finally:
        client.stop()
        client.close()


@pytest.fixture
def zk_hosts(zookeeper_server: str) -> Iterator[str]:
    """`host:port/chroot`: a ZooKeeper tree of the test's own."""
    with zookeeper_tree(zookeeper_server) as hosts:
        yield hosts


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[URL]:
    """A PostgreSQL for the whole run; its user may create databases."""
    if TEST_POSTGRES:
        yield make_url(TEST_POSTGRES)
        return
    with ExitStack() as stack:
        try:
            server = stack.enter_context(postgres.private_server())
        except postgres.NoPostgresError as error:
            require(False, str(error))
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres_server: URL) -> Iterator[str]:
    """The name of a database with the newest schema, to be copied: quicker than migrations."""
    with postgres.database(postgres_server) as url:
        store = open_store(postgres.text_of(url))
        store.start()
        store.stop()
        assert url.database is not None
        yield url.database
