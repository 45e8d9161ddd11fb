"""The database under the store: migrations, group commit, counters, schedules, stopping."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import Future
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from job_engine.errors import (
    ConfigurationError,
    InvalidResourceError,
    MissingDependencyError,
    StoreError,
)
from job_engine.model import Fence
from job_engine.model.protocol.actions import ActionDescription
from job_engine.store.counters import MAX_INCARNATION
from job_engine.store.factory import open_store
from job_engine.store.store import Store
from job_engine.store.tables import counters, metadata
from tests.contract.store.support import ON_SQLITE, Clock, add, document, running


@pytest.mark.filterwarnings(
    # Of one that only PostgreSQL has.
    "ignore:autogenerate skipping metadata-specified expression-based index 'jobs_searched'"
)
def test_migrations_make_what_the_tables_say(store: Store) -> None:
    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    assert store.database.read(differences) == []


def test_starting_together_and_again(store_url: str) -> None:
    stores = [open_store(store_url, Clock()) for _ in range(4)]
    barrier = threading.Barrier(len(stores))
    failures: list[BaseException] = []

    def start(store: Store) -> None:
        barrier.wait()
        try:
            store.start()
        except StoreError as error:
            failures.append(error)

    threads = [threading.Thread(target=start, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert failures == []
        job = add(stores[0])
        assert stores[1].jobs.get(job)["id"] == job
    finally:
        for store in stores:
            store.stop()


def test_a_unit_that_fails_fails_alone(store: Store) -> None:
    """Units that share a commit do not share each other's failures."""
    entered, go = threading.Event(), threading.Event()

    def blocking(_connection: Connection) -> None:
        entered.set()
        assert go.wait(30)

    def insert(name: str, fail: bool, connection: Connection) -> str:
        connection.execute(sa.insert(counters).values(name=name, value=1))
        if fail:
            raise ValueError(name)
        return name

    first = store.database.submit(blocking)
    assert entered.wait(30)
    futures: list[Future[str]] = []
    for n in range(10):  # all of them wait, and so share the next commit
        fail = n % 2 == 1
        futures.append(store.database.submit(lambda c, n=n, f=fail: insert(str(n), f, c)))  # type: ignore[misc]
    go.set()
    first.result(30)
    for n, future in enumerate(futures):
        if n % 2:
            with pytest.raises(ValueError, match=str(n)):
                future.result(30)
        else:
            assert future.result(30) == str(n)
    names = store.database.read(lambda c: c.execute(sa.select(counters.c.name)).scalars().all())
    assert sorted(names) == ["0", "2", "4", "6", "8"]


def test_stopping_commits_submitted_units_and_refuses_new_ones(store_url: str) -> None:
    store = open_store(store_url, Clock())
    store.start()
    futures = [store.database.submit(lambda c: c.execute(sa.select(1)).scalar()) for _ in range(50)]
    store.stop()
    assert [future.result(0) for future in futures] == [1] * 50
    with pytest.raises(StoreError, match="closed"):
        store.jobs.add(document())
    store.stop()


def test_a_store_that_cannot_be_opened_says_which(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(b"not a database" * 100)
    store = open_store(f"sqlite:///{path}", Clock())
    with pytest.raises(StoreError, match=str(path)):
        store.start()


@pytest.mark.parametrize("url", ["nonsense", "mysql://h/d", "sqlite://", "sqlite:///:memory:"])
def test_urls_that_name_no_store(url: str) -> None:
    with pytest.raises(ConfigurationError):
        open_store(url)


def test_a_missing_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(MissingDependencyError, match="pip install"):
        open_store("postgresql://h/d")


def test_incarnations_are_never_drawn_twice(store: Store) -> None:
    first = store.counters.draw_incarnation()
    assert store.counters.draw_incarnation() == first + 1
    # The store was restored from a backup, and claimed from by who knows better.
    running(store, Fence(first + 40, 1))
    assert store.counters.draw_incarnation() == first + 41
    assert store.counters.draw_incarnation() == first + 42


def test_a_fence_that_nobody_drew_leaves_no_incarnation(store: Store) -> None:
    running(store, Fence(MAX_INCARNATION, 1))
    with pytest.raises(InvalidResourceError):
        store.counters.draw_incarnation()


def test_a_restored_store_draws_no_incarnation_again(store: Store, clock: Clock) -> None:
    """Nobody who knew of it is left: the claims are forgotten, and ZooKeeper was wiped."""
    drawn = store.counters.draw_incarnation()
    store.database.write(lambda c: c.execute(counters.delete()))
    clock.advance(0.001)
    assert store.counters.draw_incarnation() > drawn


def test_secrets_are_made_once(store: Store) -> None:
    assert store.counters.secret("a", lambda: "first") == "first"
    assert store.counters.secret("a", lambda: "second") == "first"


def test_actions_are_known_by_their_newest_word(store: Store) -> None:
    def described(name: str, timeout_s: float) -> ActionDescription:
        return ActionDescription(name=name, payload_schema={"type": "object"}, timeout_s=timeout_s)

    store.actions.publish([described("b", 1), described("a", 1)])
    store.actions.publish([described("b", 2)])
    assert [(d.name, d.timeout_s) for d in store.actions.all()] == [("a", 1), ("b", 2)]
    assert store.actions.get("c") is None


def test_a_tick_has_one_job_and_an_action_one_unfinished(store: Store) -> None:
    def tick(at_ms: int) -> tuple[str | None, int | None]:
        reply = store.schedules.schedule("clean", at_ms, lambda: document("clean"))
        return reply.job, reply.last_tick_ms

    job, last = tick(1000)
    assert job is not None
    assert last == 1000
    assert tick(1000) == (None, 1000)
    assert tick(2000) == (None, 1000)  # the first is unfinished
    store.jobs.cancel(job, lambda _: None, None)
    assert tick(500) == (None, 1000)
    again, last = tick(2000)
    assert again is not None
    assert last == 2000
    store.jobs.delete(again, lambda _: None)
    assert tick(2000) == (None, 2000)


def test_a_clock_that_was_wrong_for_a_while_stops_no_schedule(store: Store, clock: Clock) -> None:
    def tick(at_ms: int) -> str | None:
        reply = store.schedules.schedule("clean", at_ms, lambda: document("clean"))
        if reply.job is not None:
            store.jobs.cancel(reply.job, lambda _: None, None)
        return reply.job

    now_ms, year_ms = clock.now_ms, 365 * 86_400_000
    assert tick(now_ms)
    assert tick(now_ms + year_ms) is None  # only the leader's was wrong
    clock.now_ms += year_ms
    assert tick(clock.now_ms)
    clock.now_ms = now_ms + 60_000
    assert tick(now_ms) is None
    assert tick(clock.now_ms)
    assert tick(clock.now_ms) is None


def test_exactly_one_of_many_leaders_creates_a_tick(store: Store) -> None:
    barrier = threading.Barrier(6)
    created: list[str | None] = []

    def race() -> None:
        barrier.wait()
        reply = store.schedules.schedule("clean", 1000, lambda: document("clean"))
        created.append(reply.job)

    threads = [threading.Thread(target=race) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([job for job in created if job is not None]) == 1


@ON_SQLITE
def test_waiting_writers_get_an_error_when_no_transaction_can_begin(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process keeps the file locked: an answer, and not a request that never ends."""
    monkeypatch.setattr("job_engine.store.sqlite.backend.BUSY_TIMEOUT_S", 0.1)
    store = open_store(store_url, Clock())
    store.start()
    other = sqlite3.connect(store_url.removeprefix("sqlite:///"), isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            store.database.submit(lambda c: c.execute(sa.select(1)).scalar()).result(30)
        other.execute("ROLLBACK")
        assert add(store)
    finally:
        other.close()
        store.stop()


def test_a_read_that_takes_too_long_is_ended(
    store_url: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few searches of somebody's must not hold everybody's up."""
    where = {"sqlite": "sqlite.backend", "postgres": "postgres.connections"}[backend]
    monkeypatch.setattr(f"job_engine.store.{where}.READ_LIMIT_S", 0.05)
    store = open_store(store_url, Clock())
    store.start()
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    try:
        with pytest.raises(StoreError, match="narrow it"):
            store.database.read(lambda c: c.exec_driver_sql(endless).scalar())
        job = add(store)
        with pytest.raises(StoreError, match="narrow it"):  # and what is deleted is looked for so
            store.jobs.delete_where(sa.literal_column(f"({endless})") > 0)
        assert store.jobs.get(job)
        assert store.database.read(lambda c: c.execute(sa.select(1)).scalar()) == 1
    finally:
        store.stop()


def test_errors_of_the_database_repeat_no_values(store: Store) -> None:
    """Among the values are what people wrote, and digests of their passwords."""

    def failing(connection: Connection) -> None:
        connection.execute(sa.text("INSERT INTO nothing VALUES (:v)"), {"v": "hidden"})

    with pytest.raises(StoreError) as caught:
        store.database.write(failing)
    assert "INSERT" not in str(caught.value)
    assert "hidden" not in repr(caught.value.__cause__)
