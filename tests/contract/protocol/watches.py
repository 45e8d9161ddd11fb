"""What changes in the small ZooKeeper, and who is told of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kazoo.protocol.states import EventType, KeeperState, WatchedEvent

Watch = Callable[[WatchedEvent], None]


@dataclass(frozen=True)
class Node:
    """What is at one path."""

    data: bytes
    owner: int = 0
    """Session of an ephemeral node; 0: it is none."""
    czxid: int = 0
    mzxid: int = 0
    version: int = 0
    births: int = 0
    """Children that it ever had; the next one's sequence."""


@dataclass(frozen=True)
class Change:
    """One path before and after a transaction; `by` is None where a session's end did it."""

    path: str
    before: Node | None
    after: Node | None
    by: int | None


Watched = tuple[str, EventType | None, Watch]
"""Path, what for (None: for children), and who is told."""


def is_child(path: str, prefix: str) -> bool:
    """Whether `path` is directly below `prefix`, which ends in a slash."""
    return path.startswith(prefix) and path != prefix and "/" not in path[len(prefix) :]


def fire(watches: list[Watched], changes: Sequence[Change]) -> None:
    """Tell whoever watches what changed, once."""
    for watched in list(watches):
        path, kind, watch = watched
        event = next((e for c in changes if (e := _event(c, path, kind)) is not None), None)
        if event is not None and watched in watches:
            watches.remove(watched)
            watch(WatchedEvent(event, KeeperState.CONNECTED, path))


def _event(change: Change, path: str, kind: EventType | None) -> EventType | None:
    """What a watch on `path` is told of one change; None: nothing."""
    appeared, vanished = change.before is None, change.after is None
    if change.path == path and vanished:
        return EventType.DELETED
    if kind is None:
        child = is_child(change.path, path.rstrip("/") + "/")
        return EventType.CHILD if child and (appeared or vanished) else None
    if change.path != path:
        return None
    if appeared:
        return EventType.CREATED
    if change.before is not None and change.after is not None:
        return EventType.CHANGED if change.before.version != change.after.version else None
    return None


def disconnect(watches: Sequence[Watched]) -> None:
    """Tell them that their watches went with the connection."""
    for _, _, watch in watches:
        watch(WatchedEvent(EventType.NONE, KeeperState.CONNECTING, None))
