"""An overview of the queue and its leaders, read from ZooKeeper for `job-engine status`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from job_engine.queue import layout
from job_engine.queue.transaction import answered

_LOCK: Final = "__lock__"
"""Text before the sequence number in the name of a candidate's node (kazoo's elections)."""


@dataclass(frozen=True)
class Overview:
    """The number of entries in the queue, and the leader of each election."""

    entries: int
    claimed: int
    """Those of the entries that an executor has claimed."""
    leaders: Mapping[str, str]
    """Name of the leading distributor, by election; most elections are named after an action."""


def overview(client: KazooClient, queue_root: str = "/job") -> Overview:
    """Read it once. Raises `QueueError` if ZooKeeper does not answer, or refuses the client."""
    with answered():
        elections = _children(client, layout.ELECTION)
        # Foreign distributors have elections of their own there.
        names = [name for name in map(layout.action_of_election, elections) if name is not None]
        leaders = {name: leader for name in names if (leader := _leader(client, name))}
        return Overview(
            entries=_count(client, layout.entries(queue_root)),
            claimed=_count(client, layout.taken(queue_root)),
            leaders=leaders,
        )


def _leader(client: KazooClient, action: str) -> str | None:
    path = layout.election(action)
    candidates = [child for child in _children(client, path) if _LOCK in child]
    for first in sorted(candidates, key=lambda child: child.rpartition(_LOCK)[2]):
        try:
            data, _ = client.get(f"{path}/{first}")
        except NoNodeError:
            continue  # it has just gone, and the next one leads
        return str(data.decode(errors="replace"))
    return None


def _children(client: KazooClient, path: str) -> list[str]:
    try:
        return sorted(client.get_children(path))
    except NoNodeError:
        return []


def _count(client: KazooClient, path: str) -> int:
    stat = client.exists(path)
    return 0 if stat is None else int(stat.numChildren)
