"""Peers of an engine, which are gone when their test is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from typing import Any, Final

import pytest
from kazoo.client import KazooClient
from nuvla.api import Api

from tests.compat.peer.executor import Action, Call, Executor, by_header, log_in
from tests.support.engine import Engine, eventually

ADMIN: Final = "internal group/nuvla-admin group/nuvla-admin group/nuvla-user group/nuvla-anon"

Connect = Callable[[], KazooClient]
MakeExecutor = Callable[..., Executor]


@pytest.fixture(scope="module")
def key(engine: Engine) -> Mapping[str, str]:
    """An API key with an admin's rights, such as the peer's services have."""
    with closing(engine.admin()) as admin:
        template = {"href": "credential-template/generate-api-key", "ttl": 3600}
        made = admin.add("credential", {"name": "peer", "template": template}).data
    return {"key": made["resource-id"], "secret": made["secret-key"]}


@pytest.fixture
def api(engine: Engine) -> Iterator[Api]:
    """The test's own client: an admin by header."""
    client = by_header(engine.url, ADMIN)
    yield client
    client.session.close()


@pytest.fixture
def connect(zookeeper: str) -> Iterator[Connect]:
    """Makes sessions with ZooKeeper; all of them end with the test."""
    with ExitStack() as stack:

        def make() -> KazooClient:
            client = KazooClient(zookeeper, timeout=30.0)  # as the peer has it (docs/cimi.md §6.1)
            client.start()
            stack.callback(client.close)
            stack.callback(client.stop)
            return client

        yield make


@pytest.fixture
def executor(engine: Engine, key: Mapping[str, str], connect: Connect) -> Iterator[MakeExecutor]:
    """Makes executors of the peer's, each with a session and a login of its own."""
    with ExitStack() as stack:

        def make(
            actions: Mapping[str, Action], calls: list[Call] | None = None, **more: Any
        ) -> Executor:
            api = log_in(engine.url, more.pop("key", key), calls)
            stack.callback(api.session.close)
            return Executor(api, connect(), actions, patience_s=0.05, **more)

        yield make


@pytest.fixture(autouse=True)
def _empty(api: Api, nodes: KazooClient) -> Iterator[None]:
    """Leave nothing to the next test: what was not finished is cancelled."""
    yield
    left = api.search("job", filter="state=['QUEUED', 'RUNNING']", select="id, operations")
    for job in left.resources:
        api.operation(job, "cancel")
    # Ours takes what is cancelled out of the queue, but for what a peer has claimed.
    eventually(lambda: not nodes.get_children("/job/entries"), 60, "an empty queue")


def wait_pushed(api: Api, *jobs: str) -> list[str]:
    """Wait until jobs were pushed, and return the names of their entries."""

    def look() -> list[str] | None:
        tags = [api.get(job).data.get("tags", [""])[0] for job in jobs]
        names = [tag.removeprefix("/job/entries/") for tag in tags]
        return names if all(name.startswith("entry-") for name in names) else None

    return eventually(look, what=f"{jobs} to be pushed") or []
