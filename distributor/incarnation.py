"""The incarnation: a number that changes when ZooKeeper loses its data (see `Fence`)."""

from __future__ import annotations

from kazoo.client import KazooClient
from kazoo.exceptions import NodeExistsError

from job_engine.client import Api
from job_engine.log import get_logger
from job_engine.queue import layout
from job_engine.queue.transaction import answered

log = get_logger(__name__)


def ensure_incarnation(client: KazooClient, api: Api) -> None:
    """Write a number drawn from the store to ZooKeeper, unless there is one already.

    Of several processes at once the first one writes; the numbers of the others are never
    used, and gaps do no harm. Raises `QueueError` and `ApiError`.
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
