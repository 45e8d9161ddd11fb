"""Paths in ZooKeeper; no other module spells them."""

from __future__ import annotations

from typing import Final

ENGINE: Final = "/job-engine"
INCARNATION: Final = f"{ENGINE}/incarnation"
DRAIN: Final = f"{ENGINE}/drain"
LINE: Final = f"{ENGINE}/line"
EXECUTORS: Final = "/executors"
ELECTION: Final = "/election"
_FEED: Final = "feed:"


def entries(root: str) -> str:
    """Return the parent of the entries of the queue at `root`."""
    return f"{root}/entries"


def taken(root: str) -> str:
    """Return the parent of the claim nodes of the queue at `root`."""
    return f"{root}/taken"


def line(root: str) -> str:
    """Return the parent of the line of idle executors of the queue at `root`."""
    return f"{LINE}/{root.strip('/').replace('/', ':')}"


def executor(name: str, session_id: int) -> str:
    """Return an executor's own node, one for each session."""
    return f"{EXECUTORS}/{name}-{session_id & (2**64 - 1):016x}"


def election(action: str) -> str:
    """Return the path of the election of an action's leader.

    Not at the action's bare name: the Nuvla job engine's distributor, which creates jobs
    and pushes none, holds that one for as long as it lives (docs/cimi.md §6.5).
    """
    return f"{ELECTION}/{_FEED}{action}"


def action_of_election(child: str) -> str | None:
    """Return the name of the election in a child of `ELECTION`; None for a foreign one."""
    return child.removeprefix(_FEED) if child.startswith(_FEED) else None


def drain(name: str) -> str:
    """Return the node that asks the executor of this name to drain."""
    return f"{DRAIN}/{name}"
