"""Making the parts of the queue from settings."""

from __future__ import annotations

from job_engine.queue.session import ZooKeeperSession
from job_engine.settings import ServiceSettings


def open_session(settings: ServiceSettings) -> ZooKeeperSession:
    """Return a session for these settings; it connects on `start`."""
    auth = settings.zk_auth.get_secret_value() if settings.zk_auth else None
    return ZooKeeperSession(settings.zk_hosts, settings.zk_session_timeout_s, auth)
