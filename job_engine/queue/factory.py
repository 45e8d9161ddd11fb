"""Making the parts of the queue from settings."""

from __future__ import annotations

from job_engine.queue.security import client_arguments
from job_engine.queue.session import ZooKeeperSession
from job_engine.settings import ServiceSettings


def open_session(settings: ServiceSettings) -> ZooKeeperSession:
    """Return a session for these settings; it connects on `start`.

    Raises `ConfigurationError` for settings that could never work.
    """
    return ZooKeeperSession(
        settings.zk_hosts, settings.zk_session_timeout_s, client_arguments(settings)
    )
