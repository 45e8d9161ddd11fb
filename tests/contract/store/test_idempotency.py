"""Creates that are sent again, and the weights of shares."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from job_engine.errors import ConflictError
from job_engine.model.protocol.feed import Share
from job_engine.store.jobs.idempotency import KEPT_MS, KeyReusedError, OnceKey
from job_engine.store.search.query import Query, run
from job_engine.store.search.source import JOBS
from job_engine.store.store import Store
from tests.contract.store.support import Clock, add, document, states

ONCE = OnceKey("user/x", "key", "digest")


def create(store: Store, once: OnceKey = ONCE, count: int = 2) -> tuple[list[str], object]:
    documents = [document() for _ in range(count)]
    made = store.idempotency.add_many(documents, once)
    return [d["id"] for d in documents], made


def count(store: Store) -> int:
    return store.database.read(lambda c: run(c, JOBS, Query(limit=0), 0)).count


def test_the_second_request_gets_the_jobs_of_the_first(store: Store) -> None:
    assert store.idempotency.find(ONCE) is None
    ids, made = create(store)
    assert made is None
    assert [job for job, _ in states(store)] == ids
    assert create(store)[1] == ids
    assert store.idempotency.find(ONCE) == ids
    assert count(store) == 2


@pytest.mark.parametrize(
    "other", [OnceKey("user/y", "key", "digest"), OnceKey("user/x", "KEY", "digest")]
)
def test_keys_are_each_owners_own(store: Store, other: OnceKey) -> None:
    create(store)
    assert create(store, other)[1] is None
    assert count(store) == 4


def test_another_request_under_the_same_key_is_refused(store: Store) -> None:
    create(store)
    other = OnceKey("user/x", "key", "something else")
    with pytest.raises(KeyReusedError, match="use a new key"):
        store.idempotency.find(other)
    with pytest.raises(KeyReusedError):
        create(store, other)
    assert count(store) == 2


def test_a_key_is_kept_for_a_day_and_then_forgotten(store: Store, clock: Clock) -> None:
    create(store)
    clock.advance(KEPT_MS / 1000 - 0.001)
    assert store.idempotency.forget_old() == 0
    assert create(store)[1] is not None
    clock.advance(0.001)
    assert store.idempotency.find(ONCE) is None
    assert create(store)[1] is None  # though nobody has swept yet
    clock.advance(KEPT_MS / 1000)
    assert store.idempotency.forget_old() == 1
    assert store.idempotency.forget_old() == 0


def test_there_are_jobs_and_key_or_neither(store: Store) -> None:
    taken = add(store)
    with pytest.raises(ConflictError):
        store.idempotency.add_many([document(), document(id=taken)], ONCE)
    assert store.idempotency.find(ONCE) is None
    assert count(store) == 1


def test_of_many_requests_at_once_one_creates(store: Store) -> None:
    barrier = threading.Barrier(16)

    def send(_: int) -> tuple[list[str], object]:
        barrier.wait()
        return create(store)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(send, range(16)))
    created: Sequence[list[str]] = [ids for ids, made in answers if made is None]
    assert len(created) == 1
    assert [made for _, made in answers if made is not None] == [created[0]] * 15
    assert count(store) == 2


def test_shares_are_listed_by_name_and_by_pages(store: Store) -> None:
    for name, weight in (("b", 2.0), ("c", 0.5), ("a", 1.0), ("b", 3.0)):
        store.shares.set_weight(Share(name=name, weight=weight))
    first = store.shares.list(limit=2)
    assert [(s.name, s.weight) for s in first.shares] == [("a", 1.0), ("b", 3.0)]
    assert first.next == "b"
    rest = store.shares.list(after="b", limit=2)
    assert [(s.name, s.weight) for s in rest.shares] == [("c", 0.5)]
    assert rest.next is None


def test_a_weight_applies_to_what_already_waits(store: Store) -> None:
    documents = [document(parent=f"p/{n % 2}") for n in range(40)]
    store.jobs.add_many(documents)
    store.shares.set_weight(Share(name="p/1", weight=3))
    fed = [item.job for item in store.feed.feed("noop", 16).jobs]
    heavy = {d["id"] for d in documents if d["parent"] == "p/1"}
    assert sum(job in heavy for job in fed) == 12
