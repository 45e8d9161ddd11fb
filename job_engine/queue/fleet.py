"""The live executors, as registered in ZooKeeper, and requests to drain one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from kazoo.client import KazooClient
from kazoo.exceptions import NodeExistsError, NoNodeError
from kazoo.protocol.states import EventType, WatchedEvent

from job_engine.errors import QueueError
from job_engine.model import OLDEST_VERSION
from job_engine.queue import layout
from job_engine.queue.transaction import answered


@dataclass(frozen=True)
class ExecutorInfo:
    """What a live executor publishes about itself."""

    name: str
    host: str
    threads: int
    actions: tuple[str, ...]
    sandbox: str | None
    version: str
    draining: bool
    job_version: int = OLDEST_VERSION
    """The newest job version that it runs."""


def list_executors(client: KazooClient) -> list[ExecutorInfo]:
    """Return the executors whose session is alive, by name; raises `QueueError`."""
    with answered():
        try:
            names = client.get_children(layout.EXECUTORS)
        except NoNodeError:
            return []
        reads = [client.get_async(f"{layout.EXECUTORS}/{name}") for name in sorted(names)]
        found = []
        for read in reads:
            try:
                data, _ = read.get()
            except NoNodeError:
                continue
            if info := _parse(data):
                found.append(info)
    return found


def request_drain(client: KazooClient, name: str) -> None:
    """Ask the executor of this name to finish what it runs and stop.

    Raises `QueueError` when no live executor has that name.
    """
    if name not in {executor.name for executor in list_executors(client)}:
        raise QueueError(
            f"No live executor is named {name!r}; `job-engine executor list` shows them."
        )
    with answered():
        client.ensure_path(layout.DRAIN)
        try:
            client.create(layout.drain(name))
        except NodeExistsError:
            return


def withdraw_drain(client: KazooClient, name: str) -> None:
    """Remove a request to drain, so that it does not apply to the next executor of this name.

    Waits a second for the answer at most, because the caller is stopping.
    """
    with answered():
        try:
            client.delete_async(layout.drain(name)).get(timeout=1.0)
        except NoNodeError:
            return


def _parse(data: bytes) -> ExecutorInfo | None:
    """Parse a node; return None if it is not an executor's, or too new to be read."""
    try:
        about = json.loads(data)
        return ExecutorInfo(
            name=str(about["name"]),
            host=str(about["host"]),
            threads=int(about["threads"]),
            actions=tuple(str(action) for action in about["actions"]),
            sandbox=about.get("sandbox"),
            version=str(about["version"]),
            draining=bool(about.get("draining", False)),
            job_version=int(about.get("job_version", OLDEST_VERSION)),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def watch_drain(
    client: KazooClient,
    name: str,
    *,
    on_request: Callable[[], None],
    on_unwatched: Callable[[], None],
) -> None:
    """Call `on_request` once the executor of this name is asked to drain.

    An existing request counts. When the connection ends, so does the watch: then
    `on_unwatched` is called, and the caller has to watch again.
    """

    def seen(event: WatchedEvent) -> None:
        if event.type == EventType.CREATED:
            on_request()
        else:
            on_unwatched()

    with answered():
        if client.exists(layout.drain(name), watch=seen):
            on_request()


def watch_registration(client: KazooClient, node: str, on_gone: Callable[[], None]) -> None:
    """Call `on_gone` once this executor's own node is deleted, which only an operator does.

    Leaders do not see an executor without a node and push nothing for it, so it would have
    nothing to claim and would not notice the deletion.
    """

    def seen(event: WatchedEvent) -> None:
        if event.type == EventType.DELETED:
            on_gone()

    with answered():
        if client.exists(node, watch=seen) is None:
            on_gone()
