"""Helpers for tests that only PostgreSQL has: other processes, lost connections."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from job_engine.store.base import EVENTS_TOPIC
from job_engine.store.factory import open_store
from job_engine.store.store import Store
from job_engine.store.tables import counters
from tests.contract.store.support import Clock

QUEUED = frozenset({EVENTS_TOPIC + "QUEUED"})
WAIT_S = 30.0
END_THIS = sa.select(sa.func.pg_terminate_backend(sa.func.pg_backend_pid()))


@contextmanager
def opened(url: str) -> Iterator[Store]:
    """Another process's store."""
    store = open_store(url, Clock())
    store.start()
    try:
        yield store
    finally:
        store.stop()


def wait_for(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.01)


def waiting_for_a_lock(engine: Engine) -> int:
    """How many transactions of this database wait for a lock."""
    query = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with engine.connect() as connection:
        return int(connection.exec_driver_sql(query).scalar_one())


def job_row(job: str) -> dict[str, object]:
    """What an event says of a job."""
    return {"id": job, "action": "noop", "priority": 1}


def add_counter(connection: Connection, name: str) -> None:
    """Write a row."""
    connection.execute(sa.insert(counters).values(name=name, value=1))


def end_connections(engine: Engine, which: str) -> None:
    """End the connections of this database that a condition on `pg_stat_activity` names."""
    with engine.connect() as connection:
        ended = connection.exec_driver_sql(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            f"WHERE datname = current_database() AND pid <> pg_backend_pid() AND {which}"
        )
        assert ended.scalar_one() > 0
