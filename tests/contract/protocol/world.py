"""All processes of an engine, its store and its ZooKeeper, and what can happen to them."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace
from typing import Final, Protocol
from unittest import mock

from job_engine.queue import layout
from job_engine.store.factory import open_store
from job_engine.store.store import Store
from tests.contract.protocol.api import StoreApi
from tests.contract.protocol.book import Book
from tests.contract.protocol.distributors import TIMEOUT_S, LeaderProcess
from tests.contract.protocol.executors import ACTIONS, ExecutorProcess
from tests.contract.protocol.known import Known
from tests.contract.protocol.small_client import Net, SmallSession
from tests.contract.protocol.small_zookeeper import SmallZooKeeper, push, take
from tests.contract.protocol.storage import File, Storage
from tests.contract.protocol.witness import Witness
from tests.contract.store.support import Clock

EXECUTORS: Final = 2
RECONCILE_S: Final = 60.0

_TIMED: Final = (
    "job_engine.queue.session.time",
    "job_engine.queue.zookeeper.time",
    "executor.skips.time",
    "executor.reporter.time",
    "distributor.leader.time",
    "tests.contract.protocol.small_client.time",
)
"""Whose clock is the world's."""


class Process(Protocol):
    """What executors and leaders have in common."""

    net: Net
    paused: bool
    session: SmallSession
    api: StoreApi


class World:
    """Two executors, and two distributors for each of two actions."""

    def __init__(self, storage: Storage | None = None) -> None:
        """`storage` is where the store is; None: in a file."""
        self.storage = storage or File()
        self.clock = Clock()
        self._patches = ExitStack()
        time = SimpleNamespace(monotonic=self._seconds, time=self._seconds)
        for name in _TIMED:
            self._patches.enter_context(mock.patch(name, time))
        self._patches.enter_context(mock.patch("executor.claimer.PAUSE_S", 0.0))
        self._patches.enter_context(mock.patch("executor.reporter.RETRY_S", 0.0))
        self.zk = SmallZooKeeper()
        self.book = Book(self._opened(), self.clock)
        self.witness = Witness(self.zk, lambda: self.book)
        self.witness.foreign.add(self.zk.connect())
        self.book.held_abroad = self.witness.held_abroad
        self._backup: dict[str, Known] | None = None
        self.executors = [self._executor(n) for n in range(EXECUTORS)]
        places = [(n, action) for action in ACTIONS for n in range(2)]
        self.leaders = {
            i: LeaderProcess(action, self.zk, lambda: self.book, RECONCILE_S)
            for i, (_, action) in enumerate(places)
        }
        for i in (0, 2):
            self.leaders[i].elect(self.leaders)

    def close(self) -> None:
        """Remove everything."""
        self._patches.close()
        self.book.store.stop()
        self.storage.close()

    def _seconds(self) -> float:
        return self.clock() / 1000

    def _opened(self) -> Store:
        store = open_store(self.storage.url, self.clock)
        store.start()
        return store

    def _executor(self, n: int) -> ExecutorProcess:
        return ExecutorProcess(f"e{n}", self.zk, lambda: self.book)

    @property
    def processes(self) -> list[Process]:
        """Everybody who has a session."""
        return [*self.executors, *self.leaders.values()]

    # --- time and sessions ----------------------------------------------------

    def pass_time(self, seconds: int) -> None:
        """Let time pass; whom ZooKeeper does not hear of for too long, it forgets."""
        for second in range(seconds):
            if second >= 2 * TIMEOUT_S:
                self.clock.advance(seconds - second)
                self._tick()
                return
            self.clock.advance(1)
            self._tick()

    def _tick(self) -> None:
        for process in self.processes:
            session_id = process.session.session_id
            if not process.paused:
                process.session.tick()
            if self._seconds() - process.session.heard_s > TIMEOUT_S:
                self.zk.expire(session_id)
                knows = process.paused or not process.session.holds(session_id)
                self.book.check(knows, "lost-means-stop", f"{session_id:x} believed in")

    def resume(self, n: int) -> None:
        """End pause and partition of an executor."""
        executor = self.executors[n]
        executor.paused = executor.net.cut = False
        executor.session.tick()

    def kill(self, n: int) -> None:
        """An executor ends without a word; another of its name starts."""
        self.zk.expire(self.executors[n].session.session_id)
        self.executors[n] = self._executor(n)

    # --- disasters ------------------------------------------------------------

    def wipe(self) -> None:
        """ZooKeeper loses its data."""
        self.zk.wipe()
        self.book.wiped()
        self.witness.foreign.add(self.zk.connect())

    def back_up(self) -> None:
        """Copy the store."""
        self.book.store.stop()
        self.storage.back_up()
        self._backup = self.book.copy()
        self.book.store = self._opened()

    def restore(self) -> bool:
        """Put the copy in the store's place; return whether there was one."""
        if self._backup is None:
            return False
        self.book.store.stop()
        self.storage.put_back()
        self.book.store = self._opened()
        self.book.restored(self._backup, set(self.zk.entries))
        return True

    def push_as_foreign(self, job: str) -> None:
        """A producer that is none of ours pushes a job, which has two entries then."""
        if "/job/entries" in self.zk.nodes:
            push(self.zk, self._foreigner, job)

    def claim_as_foreign(self, job: str) -> None:
        """A consumer that is none of ours claims an entry of a job, where one is free."""
        taken = self.zk.taken
        free = [name for name, carried in self.zk.entries.items() if carried == job]
        if entry := next((name for name in free if name not in taken), None):
            take(self.zk, self._foreigner, entry)

    def kill_foreigners(self) -> None:
        """All foreign consumers end without a word; others come."""
        self.zk.expire(self._foreigner)
        self.witness.foreign.add(self.zk.connect())

    @property
    def _foreigner(self) -> int:
        return max(self.witness.foreign & set(self.zk.sessions))

    def lose_incarnation(self) -> None:
        """Somebody deletes the node; the next leader that looks draws a new one."""
        self.zk.nodes.pop(layout.INCARNATION, None)
