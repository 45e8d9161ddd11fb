"""PostgreSQL between processes: writers take turns, and notices wake the others."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from job_engine.errors import StoreError
from job_engine.model import JobState
from job_engine.store.base import EVENTS_TOPIC
from job_engine.store.jobs import events
from job_engine.store.postgres.backend import take_turn
from job_engine.store.store import Store
from job_engine.store.tables import counters
from tests.contract.store.postgres import (
    QUEUED,
    WAIT_S,
    end_connections,
    job_row,
    opened,
    wait_for,
    waiting_for_a_lock,
)
from tests.contract.store.support import ON_POSTGRES, add, states

pytestmark = ON_POSTGRES


# --- turns --------------------------------------------------------------------------


def test_no_event_becomes_visible_after_a_greater_one(
    store: Store, store_url: str, foreign: Engine
) -> None:
    """Two processes' transactions, interleaved by hand: the first to draw an id is seen first."""
    drawn, commit = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        events.append(connection, 0, job_row("job/slow"), JobState.QUEUED, None)
        events.newest_id(connection)  # whoever asks has sent what was written
        drawn.set()
        assert commit.wait(WAIT_S)

    with opened(store_url) as other:
        first = store.database.submit(slow)
        assert drawn.wait(WAIT_S)
        second: Future[None] = other.database.submit(
            lambda c: events.append(c, 0, job_row("job/quick"), JobState.QUEUED, None)
        )
        wait_for(lambda: second.done() or waiting_for_a_lock(foreign))
        seen = states(other)
        last = other.events.newest()
        commit.set()
        first.result(WAIT_S)
        second.result(WAIT_S)
        seen += states(other, last)  # what a reader who goes on from there is told
        assert [job for job, _ in seen] == ["job/slow", "job/quick"]


def test_a_paused_process_does_not_block_the_others(
    store_url: str, foreign: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends a transaction in which nothing happens; its unit is run again."""
    # Not less: on a busy machine, a pause of the opening's own would be ended.
    monkeypatch.setattr("job_engine.store.postgres.connections.PAUSE_LIMIT_S", 1.5)
    runs: list[int] = []
    paused, go_on = threading.Event(), threading.Event()

    def pausing(connection: Connection) -> str:
        runs.append(1)
        connection.execute(sa.insert(counters).values(name="paused", value=len(runs)))
        if len(runs) == 1:
            paused.set()
            assert go_on.wait(WAIT_S)
        return "done"

    with opened(store_url) as store, opened(store_url) as other:
        future = store.database.submit(pausing)
        assert paused.wait(WAIT_S)
        job = add(other)
        go_on.set()
        assert future.result(WAIT_S) == "done"
        assert store.jobs.get(job)["state"] == "QUEUED"
        value = sa.select(counters.c.value).where(counters.c.name == "paused")
        assert other.database.read(lambda c: c.execute(value).scalars().all()) == [2]


def test_waiting_too_long_for_the_lock_is_an_error(
    store_url: str, foreign: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("job_engine.store.postgres.connections.BUSY_TIMEOUT_S", 0.1)
    with opened(store_url) as store, foreign.connect() as other:
        take_turn(other)
        with pytest.raises(StoreError, match="locked"):
            add(store)
        other.exec_driver_sql("ROLLBACK")
        assert add(store)


# --- notices --------------------------------------------------------------------------


def test_a_commit_of_one_process_wakes_the_others_once(store: Store, store_url: str) -> None:
    topics: list[frozenset[str]] = []
    heard = threading.Event()
    with opened(store_url) as other:
        store.database.listen(topics.append)
        other.database.listen(lambda _topics: heard.set())
        add(store)
        assert topics == [QUEUED]
        assert heard.wait(WAIT_S)
        add(other)
        wait_for(lambda: len(topics) > 1)
        add(store)
        assert topics == [QUEUED] * 3


def test_after_a_silence_everything_is_looked_at(store: Store, foreign: Engine) -> None:
    topics: list[frozenset[str]] = []
    store.database.listen(topics.append)
    end_connections(foreign, "starts_with(query, 'LISTEN')")
    wait_for(lambda: topics)
    assert topics == [frozenset(EVENTS_TOPIC + state for state in JobState)]
