"""What a claim costs with a million jobs waiting, over what it costs with a thousand.

Two engines run side by side, one with each backlog, and take turns. This process stands
in for the executor: it claims in ZooKeeper and at the API, finishes, and consumes, with
the executor's own code, while the distributor refills the window and new jobs keep the
backlog as long as it is. The time of a claim is that of both claims together, for a full
batch of as many entries as the executor has threads.
"""

from __future__ import annotations

import itertools
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.figures import Bound, Figure, Peer, Scale, percentile
from benchmarks.peers import locking_queue
from benchmarks.servers import Running, engine, zookeeper
from job_engine import __version__
from job_engine.client import Api
from job_engine.model import SUPPORTED_VERSION, JobState
from job_engine.model.protocol.claims import (
    ClaimItem,
    ClaimRequest,
    Report,
    ReportKind,
    ReportRequest,
)
from job_engine.queue import QueueClaim, Registration, ZooKeeperClaimQueue, open_session
from job_engine.settings import ExecutorSettings
from job_engine.store.factory import open_store

THREADS: Final = 16
FEW: Final = 1000
A_SHARE: Final = 100
"""Jobs a share, in either backlog."""
BATCH: Final = 10_000
TURN: Final = 25
"""Claims of one engine in a row."""
NAME: Final = "stand-in"


class StandIn:
    """One executor's claims, made one after the other and timed."""

    def __init__(self, running: Running, shares: int) -> None:
        self._running = running
        self._shares = itertools.cycle(range(shares))
        settings = ExecutorSettings(
            name=NAME,
            api_url=running.engine.url,
            zk_hosts=running.engine.zk_hosts,
            credentials_file=running.directory / "credentials" / "executor.json",
        )
        self._api = Api.from_settings(settings)
        self._session = open_session(settings)
        self._queue = ZooKeeperClaimQueue(self._session, settings.queue_root, NAME)
        self._registration: Registration | None = None

    def start(self) -> None:
        """Join the executors."""
        self._session.start()
        if not self._session.wait_alive(30):
            raise TimeoutError("no ZooKeeper session within 30 s")
        about = {"name": NAME, "host": "here", "threads": THREADS, "actions": ["noop"]}
        versions = {"version": __version__, "job_version": SUPPORTED_VERSION}
        self._registration = self._queue.register({**about, **versions, "sandbox": None})

    def stop(self) -> None:
        """Leave them."""
        self._session.stop()
        self._api.close()

    def claim(self) -> tuple[float, int]:
        """Claim up to a batch and finish it; returns its milliseconds, and of how many."""
        assert self._registration is not None
        started = time.perf_counter()
        claims = self._queue.claim(self._registration, THREADS, lambda _: False)
        if not claims:
            self._queue.wait(0.2)
            return 0.0, 0
        self._ask(claims)
        took = time.perf_counter() - started
        self._finish(claims)
        self._running.create([_job(share) for share in itertools.islice(self._shares, len(claims))])
        return took * 1000, len(claims)

    def _ask(self, claims: list[QueueClaim]) -> None:
        items = [ClaimItem(job=c.job_id, entry=c.entry, fence=c.fence) for c in claims]
        replies = self._api.claim(ClaimRequest(executor=NAME, actions=["noop"], claims=items))
        if not all(reply.answer.runs for reply in replies):
            raise ValueError(f"not all may run: {[str(reply.answer) for reply in replies]}")

    def _finish(self, claims: list[QueueClaim]) -> None:
        reports = [
            Report(job=c.job_id, fence=c.fence, kind=ReportKind.FINISH, state=JobState.SUCCESS)
            for c in claims
        ]
        self._api.report(ReportRequest(executor=NAME, reports=reports))
        self._queue.consume(claims)

    def turn(self, claims: int) -> list[float]:
        """Make claims; returns the milliseconds of those that found a full batch."""
        found: list[float] = []
        deadline = time.monotonic() + 60
        while len(found) < claims:
            took, count = self.claim()
            if count == THREADS:
                found.append(took)
            if time.monotonic() > deadline:
                raise TimeoutError(f"only {len(found)} full batches in a minute")
        return found


def fill(running: Running, jobs: int, shares: int) -> None:
    """Put jobs into the store, as the API makes them, while the API is down.

    The store itself takes one job of each share; the database multiplies them, with all
    that belongs to them, which takes a minute and not ten.
    """
    pattern = _stored_by_the_api(running)
    running.engine.stop("api")
    store = open_store(f"sqlite:///{running.store}")
    store.start()
    firsts = [
        {**pattern, "id": f"job/{uuid.uuid4()}", "parent": f"course/{n}"} for n in range(shares)
    ]
    try:
        for first in range(0, shares, BATCH):
            store.jobs.add_many(firsts[first : first + BATCH])
    finally:
        store.stop()
    _multiply(running.store, jobs // shares)
    running.engine.start_api(log_level="WARNING")


def _multiply(file: Path, times: int) -> None:
    """Have every waiting job so many times, with an id of its own each."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TEMP TABLE firsts AS SELECT id FROM jobs WHERE state = 'QUEUED'")
        for table, column in (("jobs", "id"), ("events", "job")):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            # Numbers that the database gives, and the id that is made here.
            kept = [
                c for c in columns if c not in ("seq", column, "id" if table == "events" else "")
            ]
            connection.execute(
                f"WITH RECURSIVE times(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM times "
                f"WHERE n < {times - 1}) "
                f"INSERT INTO {table} ({column}, {', '.join(kept)}) "
                # The first eight digits of the uuid are its number among the copies.
                f"SELECT printf('job/%08x', n) || substr({column}, 13), {', '.join(kept)} "
                f"FROM times CROSS JOIN {table} WHERE {column} IN (SELECT id FROM firsts)"
            )
        # What is inserted is counted by who inserts it.
        connection.execute(
            "UPDATE job_counts SET count = count * ? WHERE state = 'QUEUED'", (times,)
        )
        connection.commit()


def _stored_by_the_api(running: Running) -> dict[str, Any]:
    """Return the document of a job that was created a moment ago, and is deleted again."""
    (job,) = running.create([_job(0)])
    document = dict(running.api.get(job).data)
    running.api.delete(job)
    for key in ("id", "created", "updated", "operations", "tags"):
        document.pop(key, None)
    return document


def _job(share: int) -> dict[str, Any]:
    return {"action": "noop", "parent": f"course/{share}"}


@contextmanager
def with_backlog(hosts: str, jobs: int) -> Iterator[StandIn]:
    """An engine with that many jobs waiting."""
    shares = max(1, jobs // A_SHARE)
    with engine(hosts) as running:
        for service in ("executor", "distributor"):
            running.engine.stop(service)
        fill(running, jobs, shares)
        running.engine.start_distributor("distributor", log_level="WARNING")
        stand_in = StandIn(running, shares)
        stand_in.start()
        try:
            stand_in.turn(TURN)
            yield stand_in
        finally:
            stand_in.stop()


def kazoo_growth(hosts: str, many: int, claims: int) -> float:
    """Return kazoo's median claim at `many` entries, over that at a thousand."""
    medians = []
    for entries in (FEW, many):
        with locking_queue.filled(hosts, "/kazoo", entries) as queue:
            medians.append(percentile(locking_queue.claims_ms(queue, claims), 50))
    return medians[1] / medians[0]


def run(scale: Scale) -> Figure:
    """Measure both backlogs in turns, and then kazoo's."""
    many = scale.pick(100_000, 1_000_000)
    entries = scale.pick(5000, 20_000)
    found: dict[int, list[float]] = {FEW: [], many: []}
    with zookeeper() as hosts:
        with ExitStack() as stack:
            sides = {jobs: stack.enter_context(with_backlog(hosts, jobs)) for jobs in found}
            for _ in range(scale.pick(10, 60)):
                for jobs, stand_in in sides.items():
                    found[jobs] += stand_in.turn(TURN)
        kazoo = kazoo_growth(hosts, entries, scale.pick(10, 30))
    ratios = {p: percentile(found[many], p) / percentile(found[FEW], p) for p in (50, 99)}
    return Figure(
        what=f"median claim at {many:,} waiting jobs of {many // A_SHARE:,} shares, over {FEW:,}",
        value=ratios[50],
        unit="times",
        higher_is_better=False,
        jobs=many,
        threads=THREADS,
        peers=[
            Peer(
                f"{locking_queue.NAME}, {entries:,} entries over {FEW:,}",
                kazoo,
                locking_queue.DURABILITY,
            )
        ],
        bounds=[Bound(f"p{p}, times", ratio, 1.2) for p, ratio in ratios.items()],
        details={
            "claims at each backlog": len(found[FEW]),
            "jobs a claim": THREADS,
            **{
                f"p{p} at {jobs:,}, ms": percentile(values, p)
                for jobs, values in found.items()
                for p in (50, 99)
            },
        },
        series={
            f"{jobs:,} waiting": [(percentile(values, p), p / 100) for p in range(1, 100)]
            for jobs, values in found.items()
        },
        axes=("ms a claim of 16", "share of claims"),
    )
