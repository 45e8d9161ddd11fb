"""What a run left behind: in ZooKeeper, in sandboxes, in scratch and in control groups."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError
from kazoo.protocol.states import ZnodeStat

from job_engine.queue import layout
from tests.contract.sandbox import bubblewrap_host

QUEUE: Final = "/job"
LINE_S: Final = 45.0
"""An entry whose job is gone is consumed once that has held for ten seconds, and is
looked at again with a back-off."""


def wait_empty(client: KazooClient, timeout_s: float = LINE_S) -> list[str]:
    """Wait until no entry and no claim is left; return those that stay."""
    deadline = time.monotonic() + timeout_s
    while left := _queue(client):
        if time.monotonic() > deadline:
            return left
        time.sleep(0.2)
    return []


def _queue(client: KazooClient) -> list[str]:
    paths = (layout.entries(QUEUE), layout.taken(QUEUE))
    return [f"{path}/{name}" for path in paths for name in client.get_children(path)]


def in_elections(client: KazooClient, distributors: int) -> list[str]:
    """Candidates beyond one for each distributor, while all of them live."""
    found = []
    for election in client.get_children(layout.ELECTION):
        path = f"{layout.ELECTION}/{election}"
        candidates = client.get_children(path)
        if len(candidates) > distributors:
            found.append(f"{path} has {len(candidates)} candidates: {sorted(candidates)}")
    return found


def in_zookeeper(client: KazooClient) -> list[str]:
    """Nodes that should have gone with the processes, once all of those have stopped."""
    found = []
    for path in _walk(client, "/"):
        stat = client.exists(path)
        if stat is not None and not path.startswith("/zookeeper") and not _stays(path, stat):
            found.append(f"{path} in ZooKeeper")
    return found


def _stays(path: str, stat: ZnodeStat) -> bool:
    """Whether a node is one of the directories, or the incarnation."""
    above = path.rpartition("/")[0]
    if stat.ephemeralOwner or above in (layout.EXECUTORS, layout.DRAIN):
        return False
    return path.startswith(layout.ENGINE) or not path.startswith(
        (f"{layout.entries(QUEUE)}/", f"{layout.taken(QUEUE)}/")
    )


def _walk(client: KazooClient, path: str) -> Iterator[str]:
    try:
        names = client.get_children(path)
    except NoNodeError:
        return
    for name in names:
        child = f"{path.rstrip('/')}/{name}"
        yield child
        yield from _walk(client, child)


def in_scratch(scratch: Path) -> list[str]:
    """Directories of runs, in the scratch of an executor that is idle or gone."""
    return [f"scratch {path}" for path in scratch.glob("*/*")]


def of_sandboxes(executors: Sequence[str]) -> list[str]:
    """Processes, mounts, control groups and files of slots."""
    found = []
    for name in executors:
        # The file systems that the bed itself mounts as scratch carry the name too.
        found += [f for f in bubblewrap_host.leftovers(name) if f"/scratch/{name}" not in f]
    return found
