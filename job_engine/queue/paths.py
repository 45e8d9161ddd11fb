"""Paths of one queue's nodes, and the number of entries in a transaction."""

from __future__ import annotations

from typing import Final

from job_engine.queue import layout
from job_engine.queue.session import ZooKeeperSession
from job_engine.queue.transaction import answered

BATCH: Final = 128
"""Most entries that one transaction touches; ZooKeeper refuses requests over 1 MiB."""


class QueuePaths:
    """Paths of a queue; `ensure` creates the parents."""

    def __init__(self, session: ZooKeeperSession, root: str) -> None:
        self._session = session
        self.entries = layout.entries(root)
        self.taken = layout.taken(root)

    def entry(self, name: str) -> str:
        """Return the path of an entry."""
        return f"{self.entries}/{name}"

    def claim(self, name: str) -> str:
        """Return the path of the claim of an entry."""
        return f"{self.taken}/{name}"

    def empty(self, name: str) -> None:
        """Delete the children of an entry, because ZooKeeper deletes no node that has some."""
        client, entry = self._session.client, self.entry(name)
        with answered():
            for below in client.get_children(entry):
                client.delete(f"{entry}/{below}", recursive=True)

    def ensure(self, *more: str) -> None:
        """Make the parents, and `more` paths, where they are missing. Raises `QueueError`."""
        with answered():
            for path in (self.entries, self.taken, *more):
                self._session.client.ensure_path(path)
