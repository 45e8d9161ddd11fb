"""A ZooKeeper client for as long as a command needs one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, NoAuthError
from kazoo.handlers.threading import KazooTimeoutError

from job_engine.errors import QueueError, QueueRefusedError
from job_engine.queue.security import client_arguments
from job_engine.settings import ZooKeeperAccess

TIMEOUT_S = 5.0


@contextmanager
def zookeeper_client(hosts: str, access: ZooKeeperAccess) -> Iterator[KazooClient]:
    """Connect; raises `QueueError`, saying why, when ZooKeeper does not answer or refuses."""
    client = KazooClient(hosts, timeout=TIMEOUT_S, **client_arguments(access))
    try:
        client.start(timeout=TIMEOUT_S)
        yield client
    except NoAuthError as error:
        raise QueueRefusedError from error
    except (KazooException, KazooTimeoutError) as error:
        raise QueueError(f"No ZooKeeper answers at {hosts}.") from error
    finally:
        client.stop()
        client.close()
