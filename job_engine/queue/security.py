"""Authentication of ZooKeeper clients, and TLS.

Services and commands share it, so that each can read what the other creates.
"""

from __future__ import annotations

from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError
from kazoo.security import make_digest_acl

from job_engine.errors import ConfigurationError
from job_engine.queue import layout
from job_engine.queue.transaction import answered
from job_engine.settings import ZooKeeperAccess


def client_arguments(settings: ZooKeeperAccess) -> dict[str, Any]:
    """Return kazoo's arguments for these settings.

    Raises `ConfigurationError` for settings that could never work: ZooKeeper does
    not reject a digest without a user, and to kazoo a missing file is a broken connection.
    """
    return {**_digest(settings), **_tls(settings)}


def _digest(settings: ZooKeeperAccess) -> dict[str, Any]:
    if settings.zk_auth is None:
        return {}
    digest = settings.zk_auth.get_secret_value()
    user, _, password = digest.partition(":")
    if not user or not password:
        raise ConfigurationError("JOB_ENGINE_ZK_AUTH has to be `user:password`.")
    return {
        "auth_data": [("digest", digest)],
        "default_acl": [make_digest_acl(user, password, all=True)],
    }


def _tls(settings: ZooKeeperAccess) -> dict[str, Any]:
    files = {
        "ca": settings.zk_tls_ca,
        "certfile": settings.zk_tls_cert,
        "keyfile": settings.zk_tls_key,
    }
    if not settings.zk_tls:
        if any(files.values()):
            raise ConfigurationError("JOB_ENGINE_ZK_TLS_… are set, but JOB_ENGINE_ZK_TLS is not.")
        return {}
    if (settings.zk_tls_cert is None) != (settings.zk_tls_key is None):
        raise ConfigurationError(
            "Set JOB_ENGINE_ZK_TLS_CERT and JOB_ENGINE_ZK_TLS_KEY, or neither."
        )
    for file in files.values():
        if file is not None and not file.is_file():
            raise ConfigurationError(f"{file}, for TLS to ZooKeeper, is not there.")
    password = settings.zk_tls_key_password
    return {
        "use_ssl": True,
        "verify_certs": True,
        "check_hostname": True,
        "keyfile_password": password.get_secret_value() if password else None,
        **{name: str(file) for name, file in files.items() if file is not None},
    }


def world_writable(client: KazooClient, queue_root: str = "/job") -> list[str]:
    """Return the engine's trees that every client may change, because they are older than
    authentication.

    Raises `QueueError` when ZooKeeper does not answer, or refuses.
    """
    found = []
    with answered():
        for path in (queue_root, layout.ENGINE, layout.EXECUTORS, layout.ELECTION):
            try:
                acls, _ = client.get_acls(path)
            except NoNodeError:
                continue
            if any(acl.id.scheme == "world" for acl in acls):
                found.append(path)
    return found
