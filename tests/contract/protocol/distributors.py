"""The real leader over the real store and the small ZooKeeper, on a net that loses things."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from types import SimpleNamespace
from typing import TypeVar, cast

from kazoo.exceptions import NodeExistsError

from distributor.candidate import Leadership
from distributor.fleet import Fleet
from distributor.leader import ActionLeader
from job_engine.client import Api
from job_engine.errors import (
    ApiError,
    ApiUnavailableError,
    LeadershipLostError,
    QueueError,
)
from job_engine.model.protocol import (
    ActionDescription,
    EntryItem,
    FeedReply,
    ScheduleReply,
)
from job_engine.queue import PushQueue, ZooKeeperSession, layout
from job_engine.settings import DistributorSettings
from job_engine.store.store import Store
from tests.contract.protocol.small_zookeeper import SmallZooKeeper

T = TypeVar("T")


class Fault(StrEnum):
    """What becomes of one call."""

    NONE = "none"
    REQUEST_LOST = "request lost"
    REPLY_LOST = "reply lost"
    TWICE = "sent again after a lost reply"


class Net:
    """Carries calls; before each, somebody else may have a turn."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.between: list[Callable[[], None]] = []

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


class StoreApi:
    """The calls of a leader's API, without the wire."""

    def __init__(self, store: Callable[[], Store], net: Net) -> None:
        self._store = store
        self._net = net

    def _call(self, act: Callable[[], T]) -> T:
        return self._net.carry(act, ApiUnavailableError, again=True)

    def feed(self, action: str, window: int) -> FeedReply:
        """See `Api`."""
        return self._call(lambda: self._store().feed.feed(action, window))

    def pushed(self, entries: Sequence[EntryItem]) -> Sequence[bool]:
        """See `Api`."""
        return self._call(lambda: self._store().feed.pushed(entries))

    def cleared(self, entries: Sequence[EntryItem]) -> Sequence[bool]:
        """See `Api`."""
        return self._call(lambda: self._store().feed.cleared(entries))

    def recorded_entries(self, action: str) -> Iterator[EntryItem]:
        """See `Api`."""
        yield from self._call(lambda: self._store().feed.entries(action, "")).entries

    def draw_incarnation(self, seen: int | None) -> int:
        """See `Api`."""
        return self._call(lambda: self._store().counters.draw_incarnation(seen))

    def actions(self) -> list[ActionDescription]:
        """See `Api`."""
        return []

    def schedule(self, _action: str, _tick_ms: int) -> ScheduleReply:
        """See `Api`."""
        raise AssertionError("nothing is scheduled here")


class SmallPushQueue(PushQueue):
    """The leader's queue in the small ZooKeeper."""

    def __init__(self, zk: SmallZooKeeper, net: Net) -> None:
        self._zk = zk
        self._net = net

    def _call(self, act: Callable[[], T]) -> T:
        return self._net.carry(act, QueueError, again=False)

    def push(self, leader_node: str, jobs: Sequence[tuple[str, int]]) -> list[str]:
        """See the base class."""

        def act() -> list[str]:
            self._guard(leader_node)
            return [self._zk.push(job, priority) for job, priority in jobs]

        return self._call(act)

    def entries(self) -> set[str]:
        """See the base class."""
        return self._call(lambda: set(self._zk.entries))

    def jobs(self, entries: Sequence[str]) -> dict[str, str]:
        """See the base class."""
        here = self._zk.entries
        return self._call(lambda: {name: here[name] for name in entries if name in here})

    def remove(self, leader_node: str, entry: str) -> bool:
        """See the base class."""

        def act() -> bool:
            self._guard(leader_node)
            free = entry not in self._zk.taken
            return free and self._zk.entries.pop(entry, None) is not None

        return self._call(act)

    def _guard(self, leader_node: str) -> None:
        if leader_node not in self._zk.guards:
            raise LeadershipLostError


class _Client:
    """As much of kazoo's client as it takes to draw an incarnation."""

    def __init__(self, zk: SmallZooKeeper) -> None:
        self._zk = zk

    def ensure_path(self, _path: str) -> None:
        return None

    def exists(self, path: str) -> bool:
        assert path == layout.INCARNATION
        return self._zk.incarnation is not None

    def create(self, _path: str, data: bytes) -> None:
        if self._zk.incarnation is not None:
            raise NodeExistsError
        self._zk.incarnation = int(data)


class LeaderProcess:
    """One distributor's part in the election of one action; see `Candidate._lead`."""

    def __init__(
        self, action: str, zk: SmallZooKeeper, store: Callable[[], Store], reconcile_s: float
    ) -> None:
        self.action = action
        self.net = Net()
        self._zk = zk
        self._terms = 0
        self._leadership: Leadership | None = None
        self._known = False
        self.duty = ActionLeader(
            action,
            api=cast(Api, StoreApi(store, self.net)),
            queue=SmallPushQueue(zk, self.net),
            session=cast(ZooKeeperSession, SimpleNamespace(client=_Client(zk))),
            fleet=cast(Fleet, SimpleNamespace(threads=lambda _action: 1)),
            settings=DistributorSettings(reconcile_s=reconcile_s),
        )

    def elect(self, rivals: Mapping[int, LeaderProcess]) -> None:
        """Win; the last leader of the action learns of it when it next pushes."""
        for rival in rivals.values():
            if rival.action == self.action:
                rival.resign_in_zookeeper()
        self._terms += 1
        node = f"{id(self)}-{self._terms}"
        self._zk.guards.add(node)
        self._leadership = Leadership(node, lambda: True)
        self._known = False

    def resign_in_zookeeper(self) -> None:
        """Lose the election node."""
        if self._leadership is not None:
            self._zk.guards.discard(self._leadership.node)

    def step(self) -> None:
        """Do what is due, as the candidate does."""
        leadership = self._leadership
        if leadership is None:
            return
        try:
            if not self._known:
                self.duty.take_over(leadership)
                self._known = True
            self.duty.step(leadership)
        except LeadershipLostError:
            self._leadership = None
        except (QueueError, ApiError):
            self._known = False
        finally:
            self.net.faults.clear()
            self.net.between.clear()
