"""The fleet: which executors are alive, followed in ZooKeeper."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import Final

from kazoo.exceptions import NoNodeError

from job_engine.errors import QueueError, QueueRefusedError
from job_engine.log import get_logger
from job_engine.model import OLDEST_VERSION
from job_engine.queue import ZooKeeperSession, layout
from job_engine.queue.fleet import ExecutorInfo, list_executors
from job_engine.queue.transaction import answered

log = get_logger(__name__)

REFRESH_S: Final = 5.0

FOREIGN_THREADS: Final = 8
"""Threads assumed for foreign consumers, which do not publish how many they have."""


class Fleet:
    """Follows `/executors`, and calls `on_change` when an executor came, went or changed.

    Consumers of the queue that do not register there, such as executors of the Nuvla job
    engine, are invisible; `foreign` are the actions that the operator says they run.
    """

    def __init__(
        self,
        session: ZooKeeperSession,
        on_change: Callable[[], None],
        foreign: Collection[str] = (),
    ) -> None:
        self._session = session
        self._on_change = on_change
        self._foreign = frozenset(foreign)
        self._executors: tuple[ExecutorInfo, ...] = ()
        self._changed = threading.Event()
        self._watching = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="fleet", daemon=True)

    def start(self) -> None:
        """Start following."""
        self._thread.start()

    def stop(self) -> None:
        """Stop following."""
        self._stopping.set()
        self._changed.set()
        self._thread.join(1.0)

    @property
    def actions(self) -> frozenset[str]:
        """Actions of live executors, including draining ones, and foreign actions."""
        return self._foreign.union(a for executor in self._executors for a in executor.actions)

    @property
    def empty(self) -> bool:
        """Whether no executor of this engine is alive."""
        return not self._executors

    def threads(self, action: str) -> int:
        """Return the threads of live executors that run this action and do not drain."""
        ours = sum(e.threads for e in self._executors if action in e.actions and not e.draining)
        return ours + (FOREIGN_THREADS if action in self._foreign else 0)

    def newest_version(self, action: str) -> int:
        """Return the newest job version that live executors of this action run; 0: there are none.

        Draining executors do not count.
        """
        return max(
            (e.job_version for e in self._executors if action in e.actions and not e.draining),
            # A foreign consumer would claim a newer job and release it again, without end.
            default=OLDEST_VERSION if action in self._foreign else 0,
        )

    def _loop(self) -> None:
        while not self._stopping.is_set():
            if self._session.wait_alive(1.0):
                try:
                    self._refresh()
                except QueueRefusedError as error:
                    log.error("fleet.refused", error=error.message)
                except QueueError as error:
                    log.info("fleet.unknown", error=error.message)
                except Exception:
                    # Without this thread no leader would push anything again.
                    log.exception("fleet.failed")
            self._changed.wait(REFRESH_S)

    def _refresh(self) -> None:
        self._changed.clear()
        if not self._watching:
            with answered():
                try:
                    self._session.client.get_children(layout.EXECUTORS, watch=self._on_watch)
                    self._watching = True
                except NoNodeError:
                    self._session.client.ensure_path(layout.EXECUTORS)
                    self._changed.set()
        executors = tuple(list_executors(self._session.client))
        if executors != self._executors:
            self._executors = executors
            log.info("fleet.changed", executors=len(executors))
            self._on_change()

    def _on_watch(self, _event: object) -> None:
        self._watching = False
        self._changed.set()
