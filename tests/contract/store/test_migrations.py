"""From any earlier schema to the newest, with what is stored in it, on every backend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, make_url

from job_engine.model.protocol.claims import ReportReceipt
from job_engine.store import migrate
from job_engine.store.factory import open_store
from job_engine.store.tables import metadata
from tests.contract.store.support import FENCE, NOW_MS, Clock, claim, entry, finish
from tests.databases import BACKENDS, database

pytestmark = pytest.mark.filterwarnings(
    # Of one that only PostgreSQL has.
    "ignore:autogenerate skipping metadata-specified expression-based index 'jobs_searched'"
)

_JOB: Final = {
    "action": "noop",
    "priority": 5,
    "given_priority": 5,
    "execution_mode": "push",
    "version": 2,
    "progress": 0,
    "created_ms": NOW_MS,
    "updated_ms": NOW_MS,
    "share": "course/1",
    "parent": "course/1",
    "created_by": "user/teacher",
    "resumed": False,
    "attempts": 0,
    "interruptions": 0,
    "document": {"acl": {"owners": ["user/teacher"]}, "name": "Übung", "deep": {"n": [1, 2.5]}},
}


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database in which nothing is."""
    with database(request, request.param, tmp_path, empty=True) as empty:
        yield empty


def at_revision(url: str, revision: str, rows: dict[str, Sequence[dict[str, Any]]]) -> None:
    """Bring an empty database to an earlier schema, and put rows into its tables."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    engine = sa.create_engine(parsed)
    migrate.upgrade(engine, revision=revision)
    tables = sa.MetaData()
    tables.reflect(engine)
    with engine.begin() as connection:
        for name, values in rows.items():
            connection.execute(sa.insert(tables.tables[name]), values)
    engine.dispose()


def differences(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection), metadata))


def test_an_empty_database_gets_the_newest_schema(url: str) -> None:
    store = open_store(url, Clock())
    store.start()
    try:
        assert store.database.read(differences) == []
    finally:
        store.stop()


def test_data_of_the_first_schema_is_migrated(url: str) -> None:
    """Jobs that wait are fed, a claim stays one, and what is over is left alone."""
    running = {
        "state": "RUNNING",
        "entry": entry(7),
        "fence_incarnation": FENCE.incarnation,
        "fence_czxid": FENCE.czxid,
        "claimed_by": "executor-1",
        "started_ms": NOW_MS,
    }
    rows: dict[str, Sequence[dict[str, Any]]] = {
        "jobs": [
            {**_JOB, **dict.fromkeys(running), "id": "job/waits", "state": "QUEUED"},
            {**_JOB, **running, "id": "job/runs"},
            {**_JOB, **dict.fromkeys(running), "id": "job/over", "state": "SUCCESS"},
        ],
        "events": [
            {"at_ms": NOW_MS, "job": "job/over", "action": "noop", "state": "SUCCESS"}
            | {"priority": 5, "entry": None}
        ],
        "access": [{"principal": "user/teacher", "resource": "job/waits", "rights": 1}],
        "counters": [{"name": "incarnation", "value": 41}],
        "secrets": [{"name": "session-key", "value": "secret"}],
    }
    at_revision(url, "0001", rows)
    store = open_store(url, Clock())
    store.start()
    try:
        assert store.database.read(differences) == []
        found = store.jobs.get("job/waits")
        assert (found["name"], found["deep"]) == ("Übung", {"n": [1, 2.5]})
        assert [item.job for item in store.feed.feed("noop", 10).jobs] == ["job/waits"]
        assert claim(store, "job/waits", entry(8), FENCE).answer.runs
        assert finish(store, "job/runs", FENCE) is ReportReceipt.ACCEPTED
        assert finish(store, "job/over", FENCE) is ReportReceipt.FINAL
        last = store.events.after(0).events
        assert [(e.event.job, e.event.state) for e in last] == [
            ("job/over", "SUCCESS"),
            ("job/waits", "RUNNING"),
            ("job/runs", "SUCCESS"),
        ]
        assert store.counters.draw_incarnation() > 41
        assert store.counters.secret("session-key", str) == "secret"
    finally:
        store.stop()


def test_step_by_step_comes_to_the_same(url: str) -> None:
    """A database that was upgraded at every release is as one that was upgraded once."""
    for revision in ("0001", "0002"):
        at_revision(url, revision, {})
    store = open_store(url, Clock())
    store.start()
    try:
        assert store.database.read(differences) == []
    finally:
        store.stop()
