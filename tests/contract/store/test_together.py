"""Several API processes on one database: of two that do the same, exactly one does it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import TypeVar

import pytest

from job_engine.errors import ConflictError, NotFoundError
from job_engine.model import Fence, JobState
from job_engine.model.protocol.claims import ReportReceipt
from job_engine.model.protocol.feed import EntryItem, Share
from job_engine.store.base import Document
from job_engine.store.factory import open_store
from job_engine.store.jobs.idempotency import OnceKey
from job_engine.store.store import Store
from tests.contract.store.support import (
    Clock,
    add,
    claim,
    document,
    entry,
    finish,
    running,
    states,
)

T = TypeVar("T")
ROUNDS = 12


@pytest.fixture
def stores(store_url: str, clock: Clock) -> Iterator[Sequence[Store]]:
    """Two processes' stores on one database."""
    with ExitStack() as stack:
        opened = [open_store(store_url, clock) for _ in range(2)]
        for store in opened:
            store.start()
            stack.callback(store.stop)
        yield opened


def at_once(*calls: Callable[[], T]) -> list[T]:
    """Make the calls at the same moment; what one raises is raised here."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T:
        barrier.wait(30)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def test_of_two_claims_one_runs_and_of_two_results_one_counts(stores: Sequence[Store]) -> None:
    for n in range(ROUNDS):
        job = add(stores[0])
        fences = [Fence(1, 100 + 2 * n), Fence(1, 101 + 2 * n)]
        replies = at_once(
            *(
                partial(claim, s, job, entry(f.czxid), f)
                for s, f in zip(stores, fences, strict=True)
            )
        )
        assert sum(reply.answer.runs for reply in replies) == 1
        receipts = at_once(
            *(partial(finish, s, job, f) for s, f in zip(stores, fences, strict=True))
        )
        assert receipts.count(ReportReceipt.ACCEPTED) == 1
        assert states(stores[1])[-3:] == [(job, "QUEUED"), (job, "RUNNING"), (job, "SUCCESS")]


def test_cancelled_or_finished_but_not_both(stores: Sequence[Store]) -> None:
    for n in range(ROUNDS):
        fence = Fence(1, 10 + n)
        job = running(stores[0], fence)

        def cancel(job: str = job) -> bool:
            try:
                stores[1].jobs.cancel(job, lambda _: None, None)
            except ConflictError:
                return False
            return True

        def end(job: str = job, fence: Fence = fence) -> bool:
            return finish(stores[0], job, fence) is ReportReceipt.ACCEPTED

        cancelled, ended = at_once(cancel, end)
        assert cancelled != ended
        assert stores[0].jobs.get(job)["state"] == ("CANCELED" if cancelled else "SUCCESS")
        assert len([s for j, s in states(stores[0]) if j == job and JobState(s).is_final]) == 1


def test_a_job_takes_one_entry(stores: Sequence[Store]) -> None:
    for n in range(ROUNDS):
        job = add(stores[0])
        entries = [EntryItem(job=job, entry=entry(2 * n + i)) for i in range(2)]
        taken = at_once(
            *(partial(s.feed.pushed, [e]) for s, e in zip(stores, entries, strict=True))
        )
        assert sorted(written for (written,) in taken) == [False, True]


def test_a_job_that_becomes_ready_while_its_lane_runs_empty_is_fed(stores: Sequence[Store]) -> None:
    """A lane is closed by who pushed its last job, and opened by who creates one: at once."""
    total = 60
    fed: list[str] = []
    created = threading.Event()

    def create() -> None:
        for _ in range(total):
            add(stores[0], parent="course/1")
        created.set()

    def push() -> None:
        while True:
            last_look = created.is_set()
            found = stores[1].feed.feed("noop", 10_000).jobs
            for item in found:
                taken = stores[1].feed.pushed([EntryItem(job=item.job, entry=entry(len(fed)))])
                assert taken == [True]
                fed.append(item.job)
            if last_look and not found:
                return

    at_once(create, push)
    assert len(set(fed)) == len(fed) == total


def test_a_request_that_is_sent_to_both_creates_once(stores: Sequence[Store]) -> None:
    def create(store: Store) -> bool:
        once = OnceKey("user/x", "key", "digest")
        return store.idempotency.add_many([document()], once) is None

    created = at_once(*(partial(create, store) for store in [*stores] * 4))
    assert created.count(True) == 1
    assert len(states(stores[0])) == 1


def test_a_tick_is_created_once(stores: Sequence[Store]) -> None:
    def make() -> Document:
        return document("clean")

    for tick in range(1, ROUNDS):
        replies = at_once(
            *(partial(s.schedules.schedule, "clean", tick * 1000, make) for s in stores)
        )
        (made,) = [reply.job for reply in replies if reply.job is not None]
        stores[0].jobs.cancel(made, lambda _: None, None)


def test_counters_and_secrets_are_everybodys(stores: Sequence[Store]) -> None:
    drawn = at_once(*(s.counters.draw_incarnation for s in [*stores] * 3))
    assert len(set(drawn)) == len(drawn)

    def make_secret() -> str:
        return uuid.uuid4().hex

    secrets = at_once(*(partial(s.counters.secret, "key", make_secret) for s in stores))
    assert secrets[0] == secrets[1]


def test_a_weight_and_a_deletion_that_are_said_twice(stores: Sequence[Store]) -> None:
    at_once(*(partial(s.shares.set_weight, Share(name="a", weight=2)) for s in stores))
    assert [(s.name, s.weight) for s in stores[0].shares.list().shares] == [("a", 2)]
    job = add(stores[0])

    def delete(store: Store) -> bool:
        try:
            store.jobs.delete(job, lambda _: None)
        except NotFoundError:
            return False
        return True

    assert sorted(at_once(*(partial(delete, s) for s in stores))) == [False, True]
