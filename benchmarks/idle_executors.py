"""What idle executors cost ZooKeeper: reads for each job, who is woken, and reads at rest.

Ours are real sessions that claim and wait as an executor does, each with one free thread
and nothing to run; their peers are waiters in `get` of kazoo's own `LockingQueue`. Both
are spread over a few processes. What ZooKeeper did is told by its own counters.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from kazoo.client import KazooClient
from kazoo.recipe.queue import LockingQueue

from benchmarks.figures import Bound, Figure, Peer, Scale
from job_engine.errors import QueueError
from job_engine.queue import ZooKeeperClaimQueue, ZooKeeperPushQueue, ZooKeeperSession, layout
from job_engine.queue.local import HOST, LocalZooKeeper, ask
from tests.support.engine import eventually

PROCESSES: Final = 4
MANY: Final = 100
"""More sessions than that get a longer timeout: a few processes have many threads to serve."""
ROOT: Final = "/job"
SETTLED_S: Final = 0.3
"""ZooKeeper has settled once it has answered no read that belongs to a job for so long."""


@dataclass(frozen=True)
class Figures:
    """What some number of idle sessions cost."""

    sessions: int
    reads_per_job: float
    """Reads that ZooKeeper answered from one push until all was quiet, over the jobs."""
    woken_per_job: float
    """Sessions that looked at the queue."""
    reads_per_s_at_rest: float
    packets_per_s_at_rest: float
    """Requests of any kind, with the pings that keep a session."""


# --- the sessions -------------------------------------------------------------


class _EngineExecutor:
    """One executor that is idle: it claims, consumes and waits."""

    def __init__(
        self, hosts: str, timeout_s: float, number: int, looked: Callable[[], None]
    ) -> None:
        self._looked = looked
        self._session = ZooKeeperSession(hosts, timeout_s)
        self._queue = ZooKeeperClaimQueue(self._session, ROOT, f"idle-{number}")
        self._session.quiet_while(lambda: True)
        self._session.start()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        registration = None
        while True:
            try:
                if registration is None:
                    if not self._session.wait_alive(60):
                        continue
                    registration = self._queue.register({})
                claims = self._queue.claim(registration, 1, lambda _: False)
                self._looked()
                if claims:
                    self._queue.consume(claims)
                else:
                    self._queue.wait(3600)
            except QueueError:
                registration = None


class _KazooWaiter:
    """One waiter in `LockingQueue.get`."""

    def __init__(
        self, hosts: str, timeout_s: float, _number: int, looked: Callable[[], None]
    ) -> None:
        self._looked = looked
        self._client = KazooClient(hosts, timeout=timeout_s)
        self._client.start(timeout=60)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        waiting = LockingQueue(self._client, ROOT)
        filter_locked = waiting._filter_locked

        def look(values: list[str], taken: list[str]) -> list[str]:
            self._looked()
            return list(filter_locked(values, taken))

        waiting._filter_locked = look
        while True:
            waiting.get()
            waiting.consume()


Waiter = type[_EngineExecutor] | type[_KazooWaiter]


def _host(kind: Waiter, hosts: str, timeout_s: float, numbers: range, pipe: Connection) -> None:
    """One process of waiters; answers each message with how many looked since the last."""
    looked: dict[int, threading.Event] = {}
    kept = []
    for number in numbers:
        looked[number] = threading.Event()
        kept.append(kind(hosts, timeout_s, number, looked[number].set))
        # One after the other: what is measured is how they wait, not how they start.
        looked[number].wait(60)
    while pipe.recv():
        pipe.send(sum(event.is_set() for event in looked.values()))
        for event in looked.values():
            event.clear()


def _timeout_s(sessions: int) -> float:
    return 12.0 if sessions <= MANY else 40.0


@contextmanager
def _waiters(kind: Waiter, hosts: str, sessions: int) -> Iterator[Callable[[], int]]:
    """Some processes with `sessions` waiters; yields how many have looked since last asked."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    count = min(PROCESSES, sessions)
    for index in range(count):
        ours, theirs = context.Pipe()
        numbers = range(index, sessions, count)
        process = context.Process(
            target=_host, args=(kind, hosts, _timeout_s(sessions), numbers, theirs), daemon=True
        )
        process.start()
        pipes.append(ours)
        processes.append(process)

    def woken() -> int:
        for pipe in pipes:
            pipe.send(True)
        return sum(pipe.recv() for pipe in pipes)

    try:
        yield woken
    finally:
        for process in processes:
            process.kill()
            process.join()


# --- ZooKeeper ----------------------------------------------------------------


class _Counters:
    """ZooKeeper's own counters."""

    def __init__(self, server: LocalZooKeeper) -> None:
        self._server = server

    def read(self, name: str) -> int:
        answer = ask(HOST, self._server.port, "mntr")
        found = dict(line.split("\t", 1) for line in answer.splitlines() if "\t" in line)
        return int(float(found.get(f"zk_{name}", "0")))

    def reads(self) -> int:
        """Requests to read that were answered; ZooKeeper counts the sessions' pings among them."""
        return self.read("cnt_readlatency")

    def settle(self, per_s_at_rest: float = 0.0) -> None:
        """Wait until nothing is read but what is read at rest anyway."""

        def quiet() -> bool:
            before = self.reads()
            time.sleep(SETTLED_S)
            # What is read at rest comes in its own rhythm; it is allowed for half again.
            return self.reads() - before <= 1.5 * per_s_at_rest * SETTLED_S + 1

        eventually(quiet, 300, "a ZooKeeper at rest")


def measure(sessions: int, jobs: int, kind: Waiter = _EngineExecutor) -> Figures:
    """Let `sessions` wait, and push `jobs` entries one at a time."""
    with tempfile.TemporaryDirectory() as directory:
        server = LocalZooKeeper(Path(directory), tick_ms=2000, heap_mb=512)
        server.start()
        client = KazooClient(server.hosts)
        client.start()
        try:
            client.ensure_path(layout.ENGINE)
            client.ensure_path(layout.entries(ROOT))
            client.ensure_path(layout.taken(ROOT))
            client.create(layout.INCARNATION, b"1")
            with _waiters(kind, server.hosts, sessions) as woken:
                return _measure(server, sessions, jobs, woken, kind)
        finally:
            client.stop()
            client.close()
            server.stop()


def _measure(
    server: LocalZooKeeper, sessions: int, jobs: int, woken: Callable[[], int], kind: Waiter
) -> Figures:
    counters = _Counters(server)
    # One for each session that waits, and in ours one for each that reads both lists.
    expected = sessions if kind is _EngineExecutor else 2 * sessions
    eventually(lambda: counters.read("watch_count") >= expected, 300, "everybody waiting")
    session = ZooKeeperSession(server.hosts, _timeout_s(sessions))
    session.quiet_while(lambda: True)
    session.start()
    session.wait_alive(30)
    guard = session.client.create("/leader", b"", ephemeral=True)
    pushes = ZooKeeperPushQueue(session, ROOT, "leader")
    time.sleep(2 * SETTLED_S)
    rest_reads, rest_packets = _rates(counters, _timeout_s(sessions) / 3 + 1)
    woken()
    reads = looked = 0.0
    for number in range(jobs):
        before, started = counters.reads(), time.monotonic()
        pushes.push(guard, [(f"job/{number}", 999)])
        eventually(lambda: not session.client.get_children(layout.entries(ROOT)), 300)
        counters.settle(rest_reads)
        reads += counters.reads() - before - rest_reads * (time.monotonic() - started)
        looked += woken()
    session.stop()
    return Figures(sessions, reads / jobs, looked / jobs, rest_reads, rest_packets)


def _rates(counters: _Counters, for_s: float) -> tuple[float, float]:
    """Reads and requests a second, over at least one ping of each session."""
    reads, packets, started = counters.reads(), counters.read("packets_received"), time.monotonic()
    time.sleep(for_s)
    took_s = time.monotonic() - started
    return (
        (counters.reads() - reads) / took_s,
        (counters.read("packets_received") - packets) / took_s,
    )


def run(scale: Scale) -> Figure:
    """Measure ours and kazoo's at growing numbers of sessions."""
    counts = scale.pick((10, 100), (1, 10, 100, 1000))
    ours = [measure(sessions, scale.pick(5, 20)) for sessions in counts]
    theirs = [measure(n, 1 if n > MANY else 3, _KazooWaiter) for n in counts]
    few, most, peer = ours[counts.index(10)], ours[-1], theirs[-1]
    return Figure(
        what=f"ZooKeeper reads for a job, {most.sessions:,} executors idle",
        value=most.reads_per_job,
        unit="reads",
        higher_is_better=False,
        jobs=scale.pick(5, 20),
        threads=1,
        peers=[Peer("kazoo LockingQueue", peer.reads_per_job, "ZooKeeper forceSync=yes")],
        bounds=[
            Bound("reads a job, over those at 10", most.reads_per_job / few.reads_per_job, 1.5),
            Bound("sessions woken by an entry", most.woken_per_job, 4),
        ],
        details={
            f"{what} at {found.sessions:,}": value
            for found in ours
            for what, value in (
                ("reads a job", found.reads_per_job),
                ("woken", found.woken_per_job),
                ("reads and pings/s at rest", found.reads_per_s_at_rest),
                ("requests/s at rest, with pings", found.packets_per_s_at_rest),
            )
        },
        series={
            name: [(f.sessions, f.reads_per_job) for f in found]
            for name, found in (("job engine", ours), ("kazoo LockingQueue", theirs))
        },
        axes=("idle executors", "reads a job"),
        durability="ZooKeeper forceSync=yes",
    )
