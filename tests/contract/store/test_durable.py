"""stored-first: what was answered is on the disk."""

from __future__ import annotations

import threading

from job_engine.store.store import Store

_SAID_BY = {"sqlite": ("PRAGMA synchronous", 2), "postgres": ("SHOW synchronous_commit", "on")}


def test_a_commit_waits_for_the_disk(store: Store, backend: str) -> None:
    question, answer = _SAID_BY[backend]
    assert store.database.write(lambda c: c.exec_driver_sql(question).scalar()) == answer


def test_nothing_is_answered_before_its_commit(store: Store) -> None:
    """Two units in one transaction: while the second runs, the first is not yet answered."""
    begun, go_on = threading.Event(), threading.Event()

    def hold(_connection: object) -> None:
        begun.set()
        go_on.wait(10)

    holding = store.database.submit(hold)
    assert begun.wait(10)
    # Both wait behind it, and so go into one transaction.
    first = store.database.submit(lambda _: None)
    second = store.database.submit(lambda _: first.done())
    go_on.set()
    assert second.result(10) is False
    assert first.result(10) is None
    holding.result(10)
