"""Servers of a benchmark's own, on loopback: ZooKeeper, Redis, and a whole engine."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from kazoo.client import KazooClient

from job_engine.client import Api
from job_engine.queue.layout import entries
from job_engine.queue.local import LocalZooKeeper
from tests.support.engine import Engine, free_port

ACTIONS_DIR: Final = Path(__file__).parent / "actions"
CREATED_AT_ONCE: Final = 10_000

T = TypeVar("T")


@contextmanager
def zookeeper() -> Iterator[str]:
    """A ZooKeeper with its log synced to disk, as in production; yields its address."""
    with tempfile.TemporaryDirectory() as directory:
        server = LocalZooKeeper(Path(directory))
        server.start()
        try:
            yield server.hosts
        finally:
            server.stop()


@contextmanager
def connected(hosts: str) -> Iterator[KazooClient]:
    """A kazoo client."""
    client = KazooClient(hosts)
    client.start()
    try:
        yield client
    finally:
        client.stop()
        client.close()


@contextmanager
def redis(*, fsync: bool) -> Iterator[int]:
    """A Redis, with `appendfsync always` or in memory only; yields its port."""
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        durable = ["--appendonly", "yes", "--appendfsync", "always"] if fsync else []
        server = subprocess.Popen(
            [
                *("redis-server", "--port", str(port), "--bind", "127.0.0.1"),
                *("--save", "", "--dir", directory, *durable),
            ],
            stdout=subprocess.DEVNULL,
        )
        try:
            ping = ["redis-cli", "-p", str(port), "ping"]
            wait_for(lambda: _output(ping) == b"PONG\n", 10, "Redis")
            yield port
        finally:
            server.terminate()
            server.wait()


@dataclass(frozen=True)
class Running:
    """An engine of real processes, and what a benchmark asks of it."""

    engine: Engine
    api: Api

    @property
    def directory(self) -> Path:
        """A directory for the benchmark's own files, beside the engine's."""
        return self.engine.directory

    @property
    def store(self) -> Path:
        """The file of the store."""
        return self.directory / "data" / "store.sqlite"

    def pid(self, name: str) -> int:
        """Process id of a service."""
        return self.engine.processes[name].pid

    def create(self, jobs: Sequence[dict[str, Any]]) -> list[str]:
        """Create jobs in bulk; returns their ids."""
        ids: list[str] = []
        for first in range(0, len(jobs), CREATED_AT_ONCE):
            body = json.dumps({"jobs": jobs[first : first + CREATED_AT_ONCE]})
            reply = self.api.session.post(
                f"{self.api.endpoint}/api/job",
                data=body,
                headers={"bulk": "yes", "Content-Type": "application/json"},
            )
            reply.raise_for_status()
            ids += reply.json()["resource-ids"]
        return ids

    def query(self, statement: str, *values: object) -> list[Any]:
        """Read the store's file itself: a search through the API would cost the engine."""
        with closing(sqlite3.connect(f"file:{self.store}?mode=ro", uri=True)) as connection:
            return connection.execute(statement, values).fetchall()

    def succeeded(self) -> int:
        """How many jobs succeeded so far; cheap to ask while they are few."""
        return int(self.query("SELECT count(*) FROM jobs WHERE state = 'SUCCESS'")[0][0])

    def drained(self) -> bool:
        """Whether all jobs are final; cheap to ask, however many are not."""
        unfinished = "SELECT 1 FROM jobs WHERE state IN ('QUEUED', 'RUNNING') LIMIT 1"
        return not self.query(unfinished)

    def wait_final(self, timeout_s: float = 1800.0) -> None:
        """Wait until all jobs are final."""
        wait_for(self.drained, timeout_s, "a drained store")

    def wait_drained(self, timeout_s: float = 1800.0) -> float:
        """Wait until all jobs are final and consumed; returns the wall clock's time then."""
        with connected(self.engine.zk_hosts) as client:
            self.wait_final(timeout_s)
            wait_for(lambda: not client.get_children(entries("/job")), 60, "an empty queue")
            return time.time()


@contextmanager
def engine(hosts: str, **executor: object) -> Iterator[Running]:
    """A whole engine, in a tree of ZooKeeper's of its own, that has run its first job."""
    root = f"/{uuid.uuid4().hex}"
    with connected(hosts) as client:
        client.create(root)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with Engine(directory, hosts + root) as made:
            made.start_api(log_level="WARNING")
            start_services(made, **executor)
            api = made.admin()
            made.submit(api, "noop")
            running = Running(made, api)
            running.wait_drained(60)
            yield running
            api.close()


@contextmanager
def api(database_url: str | None) -> Iterator[Engine]:
    """An API and nothing else, on a database; None: SQLite."""
    with tempfile.TemporaryDirectory() as name, Engine(Path(name), "nowhere") as made:
        database = {} if database_url is None else {"database_url": database_url}
        made.start_api(log_level="WARNING", **database)
        yield made


def durability(database_url: str | None) -> str:
    """Say what makes a job durable there before it is answered."""
    if database_url is None or database_url.startswith("sqlite"):
        return "SQLite WAL, synchronous=FULL"
    return "PostgreSQL, synchronous_commit=on"


@contextmanager
def api_alone(
    fill: Callable[[str], None], database_url: str | None = None, **settings: object
) -> Iterator[Running]:
    """An API without an engine, over a store that `fill` is given the URL of, while it is empty."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        url = database_url or f"sqlite:///{directory / 'data' / 'store.sqlite'}"
        fill(url)
        with Engine(directory, "127.0.0.1:1") as made:
            made.start_api(log_level="WARNING", database_url=url, **settings)
            api = made.admin()
            try:
                yield Running(made, api)
            finally:
                api.close()


def start_services(made: Engine, **executor: object) -> None:
    """Start a distributor and an executor that knows the benchmarks' actions too."""
    made.start_distributor("distributor", log_level="WARNING")
    start_executor(made, **executor)


def start_executor(made: Engine, **executor: object) -> None:
    """Start the executor."""
    made.start_executor("executor", log_level="WARNING", actions_dir=ACTIONS_DIR, **executor)


def read_marks(file: Path) -> dict[str, float]:
    """When each job's action began first, on the monotonic clock, by the marks it left."""
    found: dict[str, float] = {}
    # The last line may be half written.
    for line in file.read_text().split("\n")[:-1] if file.exists() else ():
        job, _, at = line.partition(" ")
        found.setdefault(job, float(at))
    return found


def wait_for(look: Callable[[], T | None], timeout_s: float, what: str, every_s: float = 0.02) -> T:
    """Return the first true value that `look` returns. Raises `TimeoutError`."""
    deadline = time.monotonic() + timeout_s
    while not (value := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s:.0f} s: {what}")
        time.sleep(every_s)
    return value


def missing_redis() -> list[str]:
    """What dramatiq's benchmarks lack here, and how to get it."""
    if shutil.which("redis-server") is None or shutil.which("redis-cli") is None:
        return ["Redis is not installed. Try: apt-get install --no-install-recommends redis-server"]
    return []


def _output(command: Sequence[str]) -> bytes:
    return subprocess.run(command, check=False, capture_output=True).stdout
