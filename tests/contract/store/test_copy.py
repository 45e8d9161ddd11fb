"""Moving to another database, from each backend to each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from job_engine.errors import ConflictError
from job_engine.model import Fence
from job_engine.model.acl import normalise
from job_engine.model.protocol.actions import ActionDescription
from job_engine.model.protocol.claims import ReportKind, ReportReceipt
from job_engine.model.protocol.feed import Share
from job_engine.store.copy import copy
from job_engine.store.factory import open_store
from job_engine.store.jobs.idempotency import OnceKey
from job_engine.store.resources import Resource
from job_engine.store.store import Store
from job_engine.store.tables import metadata
from tests.contract.store.support import (
    FENCE,
    Clock,
    add,
    document,
    finish,
    push,
    report,
    running,
    states,
)
from tests.databases import BACKENDS, database


@pytest.fixture(params=BACKENDS)
def target(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, clock: Clock
) -> Iterator[Store]:
    """An empty store."""
    directory: Path = tmp_path_factory.mktemp("target")
    with database(request, request.param, directory) as url:
        opened = open_store(url, clock)
        opened.start()
        yield opened
        opened.stop()


def fill(store: Store) -> tuple[str, str]:
    """Write something into every table; returns a job that waits, and one that runs."""
    store.jobs.add_many([document(parent=f"course/{n % 3}", name="Ünïcode") for n in range(1200)])
    waits = add(store, parent="course/1", deep={"a": [1, 2.5, None, {"b": True}]})
    push(store, waits)
    runs = running(store)
    report(store, runs, FENCE, ReportKind.PROGRESS, log=["one", "two"])
    store.shares.set_weight(Share(name="course/1", weight=2.5))
    store.idempotency.add_many([document()], OnceKey("user/x", "key", "digest"))
    acl = normalise({"owners": ["user/x"]})
    store.resources.add(Resource({"id": "user/x", "acl": acl}, secret="s", key="x"))
    store.blobs.add("0" * 64, "user/x", 3, "text/plain", None, lambda: None)
    store.actions.publish([ActionDescription(name="noop", payload_schema={}, timeout_s=1)])
    store.schedules.schedule("clean", 1000, lambda: document("clean"))
    store.counters.draw_incarnation()
    store.counters.secret("session-key", lambda: "secret")
    return waits, runs


def contents(store: Store) -> dict[str, list[dict[str, object]]]:
    def unit(connection: Connection) -> dict[str, list[dict[str, object]]]:
        return {
            table.name: [
                dict(row)
                for row in connection.execute(
                    sa.select(table).order_by(*table.primary_key)
                ).mappings()
            ]
            for table in metadata.sorted_tables
        }

    return store.database.read(unit)


def test_a_copy_has_everything_and_goes_on(store: Store, target: Store) -> None:
    waits, runs = fill(store)
    before = contents(store)
    assert copy(store, target) == {name: len(rows) for name, rows in before.items()}
    assert contents(target) == before
    assert finish(target, runs, FENCE) is ReportReceipt.ACCEPTED
    newest = store.events.newest()
    assert target.events.newest() == newest + 1
    job = add(target)
    assert states(target, newest) == [(runs, "SUCCESS"), (job, "QUEUED")]
    assert target.jobs.get(waits) == store.jobs.get(waits)
    assert finish(target, waits, Fence(1, 1)) is ReportReceipt.LOST


def test_nothing_is_copied_over_something(store: Store, target: Store) -> None:
    add(store)
    target.counters.secret("session-key", lambda: "another")
    with pytest.raises(ConflictError, match="not empty"):
        copy(store, target)
    assert target.events.newest() == 0
