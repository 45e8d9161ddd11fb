"""Where things are in ZooKeeper; the one place that spells its paths."""

from __future__ import annotations

from typing import Final

ENGINE: Final = "/job-engine"
INCARNATION: Final = f"{ENGINE}/incarnation"
DRAIN: Final = f"{ENGINE}/drain"
LINE: Final = f"{ENGINE}/line"
EXECUTORS: Final = "/executors"
ELECTION: Final = "/election"


def entries(root: str) -> str:
    """Parent of the entries of the queue at `root`."""
    return f"{root}/entries"


def taken(root: str) -> str:
    """Parent of the claim nodes of the queue at `root`."""
    return f"{root}/taken"


def line(root: str) -> str:
    """Where the idle executors of the queue at `root` stand in line."""
    return f"{LINE}/{root.strip('/').replace('/', ':')}"


def executor(name: str, session_id: int) -> str:
    """An executor's own node, one for each session."""
    return f"{EXECUTORS}/{name}-{session_id & (2**64 - 1):016x}"


def election(action: str) -> str:
    """Where the leader for an action is elected.

    Not at the action's bare name: the Nuvla job engine's distributor, which creates jobs
    and pushes none, holds that one for as long as it lives (docs/cimi.md §6.5).
    """
    return f"{ELECTION}/feed:{action}"


def drain(name: str) -> str:
    """A node that asks the executor of this name to drain."""
    return f"{DRAIN}/{name}"
