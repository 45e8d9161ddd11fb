"""The locking queue in ZooKeeper: sessions, claims, pushes, and who is alive.

Nothing here talks to the API or knows what a job is beyond its id. Whatever changes
ZooKeeper is one transaction that checks the caller's own node (session-bound,
leader-fenced), and nothing is retried across sessions.
"""

from job_engine.queue.base import ClaimQueue, EntryName, PushQueue, QueueClaim, Registration
from job_engine.queue.factory import open_session
from job_engine.queue.session import ZooKeeperSession
from job_engine.queue.zookeeper import ZooKeeperClaimQueue
from job_engine.queue.zookeeper_push import ZooKeeperPushQueue

__all__ = [
    "ClaimQueue",
    "EntryName",
    "PushQueue",
    "QueueClaim",
    "Registration",
    "ZooKeeperClaimQueue",
    "ZooKeeperPushQueue",
    "ZooKeeperSession",
    "open_session",
]
