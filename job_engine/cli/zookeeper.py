"""A ZooKeeper client for as long as a command needs one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, NoAuthError
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.security import make_digest_acl
from pydantic import SecretStr

from job_engine.errors import QueueError

TIMEOUT_S = 5.0


@contextmanager
def zookeeper_client(hosts: str, auth: SecretStr | None) -> Iterator[KazooClient]:
    """Connect; raises `QueueError`, saying why, when ZooKeeper does not answer or refuses."""
    digest = auth.get_secret_value() if auth else ""
    user, _, password = digest.partition(":")
    client = KazooClient(
        hosts,
        timeout=TIMEOUT_S,
        auth_data=[("digest", digest)] if digest else None,
        default_acl=[make_digest_acl(user, password, all=True)] if digest else None,
    )
    try:
        client.start(timeout=TIMEOUT_S)
        yield client
    except QueueError as error:
        if not isinstance(error.__cause__, NoAuthError):
            raise
        raise QueueError(
            f"ZooKeeper at {hosts} refuses: set JOB_ENGINE_ZK_AUTH as the engine has it."
        ) from error
    except (KazooException, KazooTimeoutError) as error:
        raise QueueError(f"No ZooKeeper answers at {hosts}.") from error
    finally:
        client.stop()
        client.close()
