"""A ZooKeeper client for as long as a command needs one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, NoAuthError
from kazoo.handlers.threading import KazooTimeoutError

from job_engine.errors import QueueError, QueueRefusedError
from job_engine.queue.security import client_arguments
from job_engine.settings import ZooKeeperAccess

TIMEOUT_S = 5.0


class NoZooKeeperError(QueueError):
    """No ZooKeeper answers."""


@contextmanager
def zookeeper_client(hosts: str, access: ZooKeeperAccess) -> Iterator[KazooClient]:
    """Connect. Raises `QueueError` with the reason if ZooKeeper does not answer or refuses."""
    arguments = client_arguments(access)
    client = KazooClient(hosts, timeout=TIMEOUT_S, logger=_unheard(), **arguments)
    try:
        client.start(timeout=TIMEOUT_S)
        yield client
    except NoAuthError as error:
        raise QueueRefusedError from error
    except (KazooException, KazooTimeoutError) as error:
        raise NoZooKeeperError(
            f"No ZooKeeper answers at {hosts}. See whether it runs, and whether "
            "JOB_ENGINE_ZK_HOSTS names it."
        ) from error
    finally:
        client.stop()
        client.close()


def _unheard() -> logging.Logger:
    """Return a silent logger for kazoo, which logs every failed attempt to connect."""
    logger = logging.getLogger(f"{__name__}.kazoo")
    logger.disabled = True
    return logger
