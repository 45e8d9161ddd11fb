"""The real leader, its queue and its fleet, over the small ZooKeeper and the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, cast

from distributor.candidate import Leadership, Term
from distributor.fleet import Fleet
from distributor.leader import ActionLeader
from job_engine.client import Api
from job_engine.errors import QueueError
from job_engine.queue import ZooKeeperPushQueue, layout
from job_engine.settings import DistributorSettings
from tests.contract.protocol.api import StoreApi
from tests.contract.protocol.book import Book
from tests.contract.protocol.small_client import Net, SmallSession
from tests.contract.protocol.small_zookeeper import SmallZooKeeper

TIMEOUT_S: Final = 10.0
"""Session timeout of everybody."""


class LeaderProcess:
    """One distributor's part in the election of one action; see `Candidate`."""

    def __init__(
        self, action: str, zk: SmallZooKeeper, book: Callable[[], Book], reconcile_s: float
    ) -> None:
        self.action = action
        self.net = Net()
        self.paused = False
        self._zk = zk
        self._term: Term | None = None
        self._elected: Leadership | None = None
        self._terms = 0
        self._busy = False
        self.session = SmallSession(zk, self.net, TIMEOUT_S)
        self.api = StoreApi(book, self.net)
        self._fleet = Fleet(self.session, lambda: None)
        self.duty = ActionLeader(
            action,
            api=cast(Api, self.api),
            queue=ZooKeeperPushQueue(self.session, "/job", f"d-{id(self)}"),
            session=self.session,
            fleet=self._fleet,
            settings=DistributorSettings(reconcile_s=reconcile_s),
        )

    @property
    def window(self) -> int:
        """What it feeds for by the threads that it sees, but for measured drain."""
        return 2 * self._fleet.threads(self.action)

    def elect(self, rivals: Mapping[int, LeaderProcess]) -> None:
        """Win; the last leader is cut off, and does not know that its session is over."""
        for rival in rivals.values():
            if rival.action == self.action and rival.leads:
                self._zk.expire(rival.session.session_id)
        self.net.calm()
        self.net.cut = self.paused = False
        self.session.tick()
        client = self.session.client
        # As kazoo names it: nobody else's, not even after a wipe, when numbers begin anew.
        self._terms += 1
        prefix = f"{layout.election(self.action)}/{id(self)}-{self._terms}__lock__"
        node = client.create(prefix, b"", ephemeral=True, sequence=True, makepath=True)
        session_id = self.session.id
        self._elected = Leadership(node, lambda: self.session.holds(session_id))
        self._term = Term(self.action, self.duty, self._elected)

    @property
    def leads(self) -> bool:
        """Whether its election node is there, whatever it believes."""
        return self._elected is not None and self._elected.node in self._zk.nodes

    def step(self) -> None:
        """Do what is due, as the candidate does."""
        if self._term is None or self._elected is None or self._busy or self.paused:
            return
        self._busy = True
        try:
            with suppress(QueueError):
                self._fleet._refresh()
            if not self._elected.holds() or self._term.step() is None:
                self._term = None
        finally:
            self._busy = False
            self.net.calm()
