"""kazoo's own client, and the engine's own session, over the small ZooKeeper.

Everything above `KazooClient._call` is kazoo's: arguments, transactions, callbacks. Below
it, a request is answered at once, or gets lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar

from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionLoss, KazooException, SessionExpiredError
from kazoo.protocol.states import KazooState, KeeperState

from job_engine.queue import ZooKeeperSession
from tests.contract.protocol.small_zookeeper import SmallZooKeeper

T = TypeVar("T")


class Fault(StrEnum):
    """What becomes of one call."""

    NONE = "none"
    REQUEST_LOST = "request lost"
    REPLY_LOST = "reply lost"
    TWICE = "sent again after a lost reply"


class Net:
    """Carries the calls of one process; before each, somebody else may have a turn."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.between: list[Callable[[], None]] = []
        self.cut = False
        """Nothing gets through to ZooKeeper."""

    def carry(self, act: Callable[[], T], lost: type[Exception], *, again: bool) -> T:
        """Do one call. `again`: it may be sent a second time."""
        if self.between:
            self.between.pop(0)()
        fault = self.faults.pop(0) if self.faults else Fault.NONE
        if fault is Fault.REQUEST_LOST:
            raise lost
        result = act()
        if fault is Fault.REPLY_LOST:
            raise lost
        return act() if fault is Fault.TWICE and again else result

    def calm(self) -> None:
        """Lose nothing more."""
        self.faults.clear()
        self.between.clear()


class SmallClient(KazooClient):  # type: ignore[misc]
    """A client that was never started, and is connected all the same."""

    def __init__(self, zk: SmallZooKeeper, net: Net) -> None:
        super().__init__("127.0.0.1:1")
        self._zk = zk
        self._net = net
        self.unheard = False
        """Whether the end of its session breaks no request: kazoo has a new one already."""
        self._connected(zk.connect())

    def _connected(self, session: int) -> None:
        self._session_id = session
        self._state = KeeperState.CONNECTED
        self.state = KazooState.CONNECTED
        self._live.set()

    def _call(self, request: Any, async_object: Any) -> None:
        try:
            reply = self._net.carry(lambda: self._answer(request), ConnectionLoss, again=False)
        except KazooException as error:
            if isinstance(error, ConnectionLoss) and self._session_id in self._zk.sessions:
                self._zk.drop(self._session_id)
            async_object.set_exception(error)
        else:
            async_object.set(reply)

    def _answer(self, request: Any) -> Any:
        if self._net.cut:
            raise ConnectionLoss
        if self._session_id not in self._zk.sessions:
            # kazoo comes back with a new session by itself, and without a word.
            self._connected(self._zk.connect())
            if not self.unheard:
                raise SessionExpiredError
        return self._zk.answer(self._session_id, request)


class SmallSession(ZooKeeperSession):
    """The real session without its thread: `tick` is what that thread does."""

    def __init__(self, zk: SmallZooKeeper, net: Net, granted_s: float) -> None:
        super().__init__("127.0.0.1:1", granted_s)
        self._net = net
        self._zk = zk
        self._client = SmallClient(zk, net)
        self._connection.granted_s = granted_s
        self.heard_s = time.monotonic()
        """When ZooKeeper last heard of it."""

    @property
    def session_id(self) -> int:
        """The session that the connection has, whatever the engine knows of it."""
        return int(self._client._session_id)

    @property
    def ended(self) -> bool:
        """Whether ZooKeeper has ended it."""
        return self.session_id not in self._zk.sessions

    def wait_alive(self, timeout_s: float) -> bool:
        """See the base class; nothing is waited for."""
        return super().wait_alive(0)

    def tick(self) -> None:
        """Ask ZooKeeper whether it still answers; then look at the clock."""
        if not self._net.cut:
            if self.ended:
                self._client._connected(self._zk.connect())
            self.heard_s = time.monotonic()
            self._note_answer(self.session_id, self.heard_s)
        self._check_clock()
