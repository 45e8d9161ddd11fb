"""The incarnation: which life of ZooKeeper's data this is."""

from __future__ import annotations

from kazoo.client import KazooClient
from kazoo.exceptions import NodeExistsError

from job_engine.client import Api
from job_engine.log import get_logger
from job_engine.queue import layout
from job_engine.queue.transaction import answered

log = get_logger(__name__)


def ensure_incarnation(client: KazooClient, api: Api) -> None:
    """Draw a number from the store and write it down, unless ZooKeeper has one.

    A number that loses the race to be written is never used; nothing minds the gap.
    """
    with answered():
        client.ensure_path(layout.ENGINE)
        if client.exists(layout.INCARNATION):
            return
        incarnation = api.draw_incarnation()
        try:
            client.create(layout.INCARNATION, str(incarnation).encode())
        except NodeExistsError:
            return
    log.info("incarnation.drawn", incarnation=incarnation)
