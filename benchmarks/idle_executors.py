"""What idle executors cost ZooKeeper: reads for each job, who is woken, and reads at rest.

Ours are real sessions that claim and wait as an executor does, each with one free thread
and nothing to run; their peers are waiters in `get` of kazoo's own `LockingQueue`. Both
are spread over a few processes. What ZooKeeper did is told by its own counters.
"""

from __future__ import annotations

import argparse
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

from job_engine.errors import QueueError
from job_engine.queue import ZooKeeperClaimQueue, ZooKeeperPushQueue, ZooKeeperSession, layout
from job_engine.queue.local import HOST, LocalZooKeeper, ask
from tests.support.engine import eventually

PROCESSES: Final = 4
REST_S: Final = 5.0
SESSION_TIMEOUT_S: Final = 30.0
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


class _Ours:
    """One executor that is idle: it claims, consumes and waits."""

    def __init__(self, hosts: str, number: int, looked: Callable[[], None]) -> None:
        self._looked = looked
        self._session = ZooKeeperSession(hosts, SESSION_TIMEOUT_S)
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


class _Kazoos:
    """One waiter in `LockingQueue.get`."""

    def __init__(self, hosts: str, _number: int, looked: Callable[[], None]) -> None:
        self._looked = looked
        self._client = KazooClient(hosts, timeout=SESSION_TIMEOUT_S)
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


Waiter = type[_Ours] | type[_Kazoos]


def _host(kind: Waiter, hosts: str, numbers: range, pipe: Connection) -> None:
    """One process of waiters; answers each message with who has looked since the last."""
    looked: set[int] = set()
    kept = [kind(hosts, n, lambda n=n: looked.add(n)) for n in numbers]  # type: ignore[misc]
    while pipe.recv():
        pipe.send(len(looked))
        looked.clear()
    del kept


@contextmanager
def _waiters(kind: Waiter, hosts: str, sessions: int) -> Iterator[Callable[[], int]]:
    """Some processes with `sessions` waiters; yields how many have looked since last asked."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    count = min(PROCESSES, sessions)
    for index in range(count):
        ours, theirs = context.Pipe()
        numbers = range(index, sessions, count)
        process = context.Process(target=_host, args=(kind, hosts, numbers, theirs), daemon=True)
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
        """Requests to read that were answered; pings are not among them."""
        return self.read("cnt_readlatency")

    def settle(self, per_s_at_rest: float = 0.0) -> None:
        """Wait until nothing is read but what is read at rest anyway."""

        def quiet() -> bool:
            before = self.reads()
            time.sleep(SETTLED_S)
            # What is read at rest comes in its own rhythm; it is allowed for half again.
            return self.reads() - before <= 1.5 * per_s_at_rest * SETTLED_S + 1

        eventually(quiet, 300, "a ZooKeeper at rest")


def measure(sessions: int, jobs: int, kind: Waiter = _Ours) -> Figures:
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
    expected = sessions if kind is _Ours else 2 * sessions
    eventually(lambda: counters.read("watch_count") >= expected, 300, "everybody waiting")
    session = ZooKeeperSession(server.hosts, SESSION_TIMEOUT_S)
    session.start()
    session.wait_alive(30)
    guard = session.client.create("/leader", b"", ephemeral=True)
    pushes = ZooKeeperPushQueue(session, ROOT, "leader")
    time.sleep(2 * SETTLED_S)
    rest_reads, rest_packets = _rates(counters)
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


def _rates(counters: _Counters) -> tuple[float, float]:
    reads, packets, started = counters.reads(), counters.read("packets_received"), time.monotonic()
    time.sleep(REST_S)
    took_s = time.monotonic() - started
    return (
        (counters.reads() - reads) / took_s,
        (counters.read("packets_received") - packets) / took_s,
    )


def run(quick: bool) -> list[tuple[str, Figures]]:
    """Measure ours and kazoo's at growing numbers of sessions."""
    found = []
    for sessions in (1, 10, 100) if quick else (1, 10, 100, 1000):
        found.append(("job engine", measure(sessions, 5 if quick else 20)))
        few = 1 if sessions > 100 else 3
        found.append(("kazoo LockingQueue", measure(sessions, few, _Kazoos)))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    rows = [
        [
            name,
            f"{f.sessions}",
            f"{f.reads_per_job:.1f}",
            f"{f.woken_per_job:.1f}",
            f"{f.reads_per_s_at_rest:.1f}",
            f"{f.packets_per_s_at_rest:.0f}",
        ]
        for name, f in run(parser.parse_args().quick)
    ]
    head = ["system", "idle", "reads/job", "woken/job", "reads/s at rest", "packets/s at rest"]
    print("what idle executors cost ZooKeeper", head, rows)


if __name__ == "__main__":
    main()
