"""The leader's side of the queue: entries are pushed, listed and removed.

Every change is one transaction with a check on the leader's own election node
(leader-fenced). Tested against ZooKeeper 3.8 and kazoo 2.11's own `LockingQueue`.
"""

from __future__ import annotations

from collections.abc import Sequence

from job_engine.errors import LeadershipLostError, QueueError
from job_engine.queue.base import PushQueue, job_id_of
from job_engine.queue.multiread import Reading
from job_engine.queue.paths import BATCH, QueuePaths
from job_engine.queue.session import ZooKeeperSession
from job_engine.queue.transaction import Transaction, answered


class ZooKeeperPushQueue(PushQueue):
    """See `PushQueue`."""

    def __init__(self, session: ZooKeeperSession, root: str, name: str) -> None:
        self._session = session
        self._paths = QueuePaths(session, root)
        self._name = name

    def push(self, leader_node: str, jobs: Sequence[tuple[str, int]]) -> list[str]:
        """See the base class."""
        transaction = Transaction(self._session.client, leader_node)
        for job_id, priority in jobs:
            prefix = self._paths.entry(f"entry-{priority:03d}-")
            transaction.create(prefix, job_id.encode(), sequence=True)
        outcome = transaction.commit().unless_lost(LeadershipLostError)
        if not outcome.done:
            self._paths.ensure()  # a wiped ZooKeeper has no parents either
            raise QueueError(f"Could not push to the queue: {outcome.error!r}")
        return [str(path).rpartition("/")[2] for path in outcome.results[1:]]

    def entries(self) -> set[str]:
        """See the base class."""
        self._paths.ensure()
        with answered():
            self._session.client.sync(self._paths.entries)
            return set(self._session.client.get_children(self._paths.entries))

    def jobs(self, entries: Sequence[str]) -> dict[str, str]:
        """See the base class."""
        nodes = Reading(self._session.client, [self._paths.entry(n) for n in entries]).nodes()
        return {
            name: job_id_of(node.data)
            for name, node in zip(entries, nodes, strict=True)
            if node is not None
        }

    def claimed(self) -> set[str]:
        """See the base class."""
        self._paths.ensure()
        with answered():
            self._session.client.sync(self._paths.taken)
            names = self._session.client.get_children(self._paths.taken)
        batches = (names[start : start + BATCH] for start in range(0, len(names), BATCH))
        return {job for batch in batches for job in self.jobs(batch).values()}

    def remove(self, leader_node: str, entry: str) -> bool:
        """See the base class."""
        transaction = Transaction(self._session.client, leader_node)
        # Creating its claim node in the same transaction ensures that it is not claimed.
        transaction.create(self._paths.claim(entry), self._name.encode(), ephemeral=True)
        transaction.delete(self._paths.entry(entry))
        transaction.delete(self._paths.claim(entry))
        return transaction.commit().unless_lost(LeadershipLostError).done
