"""PostgreSQL when a server, a connection or a statement fails."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection, Engine, make_url

from job_engine.errors import StoreError
from job_engine.store.factory import open_store
from job_engine.store.prepared import PreparedRead, PreparedWrite
from job_engine.store.store import Store
from job_engine.store.tables import counters
from tests.contract.store.postgres import (
    END_THIS,
    WAIT_S,
    add_counter,
    end_connections,
    wait_for,
    waiting_for_a_lock,
)
from tests.contract.store.support import ON_POSTGRES, Clock, add

pytestmark = ON_POSTGRES

_ADD: Final = PreparedWrite(sa.insert(counters), ("name", "value"))
_END_THIS: Final = PreparedWrite(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))


def test_a_deadlock_with_another_client_is_retried(store: Store, foreign: Engine) -> None:
    """Only who writes without taking turns, such as an operator by hand, can cause one."""
    names = ("one", "two")
    store.database.write(
        lambda c: c.execute(sa.insert(counters), [{"name": n, "value": 0} for n in names]) and None
    )
    runs: list[int] = []
    locked, go_on = threading.Event(), threading.Event()

    def bump(connection: Connection, name: str) -> None:
        add_one = {"value": counters.c.value + 1}
        connection.execute(sa.update(counters).where(counters.c.name == name).values(add_one))

    def both(connection: Connection) -> None:
        runs.append(1)
        bump(connection, "two")
        if len(runs) == 1:
            locked.set()
            assert go_on.wait(WAIT_S)
        bump(connection, "one")

    with foreign.connect() as connection:
        # The other client's own check comes late, so that the server ends our transaction.
        connection.exec_driver_sql("SET deadlock_timeout = '60s'")
        connection.exec_driver_sql("BEGIN")
        bump(connection, "one")
        future = store.database.submit(both)
        assert locked.wait(WAIT_S)
        other = threading.Thread(target=bump, args=(connection, "two"))
        other.start()
        wait_for(lambda: waiting_for_a_lock(foreign))
        go_on.set()
        other.join(WAIT_S)
        connection.exec_driver_sql("COMMIT")
    future.result(WAIT_S)
    assert len(runs) == 2
    values = sa.select(counters.c.value).order_by(counters.c.name)
    assert store.database.read(lambda c: c.execute(values).scalars().all()) == [2, 2]


def lose_by_sqlalchemy(connection: Connection) -> None:
    connection.execute(END_THIS)


def lose_by_driver(connection: Connection) -> None:
    PreparedRead(END_THIS).all(connection)


@pytest.mark.parametrize("lose", [lose_by_sqlalchemy, lose_by_driver])
def test_a_connection_that_is_lost_in_a_unit_costs_nothing(
    store: Store, lose: Callable[[Connection], None]
) -> None:
    """All of its transaction is run again, those too that share it and were done."""
    begun, go_on = threading.Event(), threading.Event()
    runs: list[str] = []

    def hold(_connection: Connection) -> None:
        begun.set()
        assert go_on.wait(WAIT_S)

    def write(name: str, connection: Connection) -> None:
        runs.append(name)
        add_counter(connection, name)
        if runs == ["a", "b"]:
            lose(connection)

    holding = store.database.submit(hold)
    assert begun.wait(WAIT_S)
    futures = [store.database.submit(lambda c, n=n: write(n, c)) for n in "ab"]  # type: ignore[misc]
    go_on.set()
    for future in (holding, *futures):
        future.result(WAIT_S)
    assert runs == ["a", "b", "a", "b"]
    names = sa.select(counters.c.name).order_by(counters.c.name)
    assert store.database.read(lambda c: c.execute(names).scalars().all()) == ["a", "b"]


def test_a_connection_that_is_lost_in_the_commit_is_not_taken_for_a_no(
    store: Store, foreign: Engine
) -> None:
    """Perhaps it was committed: running it again might do it twice."""
    with foreign.connect() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END'"
        )
        connection.exec_driver_sql(
            "CREATE CONSTRAINT TRIGGER lose AFTER INSERT ON counters "
            "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION lose()"
        )
    runs: list[int] = []

    def write(connection: Connection) -> None:
        runs.append(1)
        add_counter(connection, "x")

    with pytest.raises(StoreError, match="ask again"):
        store.database.write(write)
    assert runs == [1]
    assert add(store)  # over a new connection


def test_a_failure_that_is_hidden_fails_its_unit_alone(store: Store) -> None:
    """The server would undo all of the transaction, and answer its commit without an error."""
    begun, go_on = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        connection.execute(sa.insert(counters).values(name="x", value=1))
        begun.set()
        assert go_on.wait(WAIT_S)

    def hide(connection: Connection) -> None:
        with suppress(sa.exc.IntegrityError):
            connection.execute(sa.insert(counters).values(name="x", value=2))

    holding = store.database.submit(hold)
    assert begun.wait(WAIT_S)
    hiding = store.database.submit(hide)
    another = store.database.submit(lambda c: add_counter(c, "y"))
    go_on.set()
    holding.result(WAIT_S)
    another.result(WAIT_S)
    with pytest.raises(StoreError, match="ignored its error"):
        hiding.result(WAIT_S)
    names = sa.select(counters.c.name).order_by(counters.c.name)
    assert store.database.read(lambda c: c.execute(names).scalars().all()) == ["x", "y"]


def test_a_statement_that_fails_after_its_unit_returned_fails_that_unit_alone(store: Store) -> None:
    """A write that nothing waits for is sent with the commit, or with another unit's."""
    begun, go_on = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        _ADD.later(connection, [{"name": "x", "value": 1}])
        begun.set()
        assert go_on.wait(WAIT_S)

    def write(name: str, connection: Connection) -> str:
        _ADD.later(connection, [{"name": name, "value": 2}])
        return name

    holding = store.database.submit(hold)
    assert begun.wait(WAIT_S)
    futures = [store.database.submit(lambda c, n=n: write(n, c)) for n in "axb"]  # type: ignore[misc]
    go_on.set()
    holding.result(WAIT_S)
    assert [futures[0].result(WAIT_S), futures[2].result(WAIT_S)] == ["a", "b"]
    with pytest.raises(sa.exc.IntegrityError):
        futures[1].result(WAIT_S)
    with pytest.raises(sa.exc.IntegrityError):
        store.database.write(lambda c: write("a", c))
    names = sa.select(counters.c.name).order_by(counters.c.name)
    assert store.database.read(lambda c: c.execute(names).scalars().all()) == ["a", "b", "x"]


def test_prepared_statements_survive_a_rollback(store: Store) -> None:
    """The driver forgets what it prepared when it rolls back, and has the server forget all."""

    def read_often(connection: Connection) -> None:
        for _ in range(6):  # from the fifth time on the driver prepares it
            connection.execute(sa.select(counters.c.value)).all()

    def write(connection: Connection) -> None:
        _ADD.later(connection, [{"name": "x", "value": 1}])

    store.database.write(read_often)
    store.database.write(write)
    with pytest.raises(sa.exc.IntegrityError):
        store.database.write(write)
    assert add(store)
    store.database.write(lambda c: _ADD.later(c, [{"name": "y", "value": 1}]))


def test_a_statement_that_the_server_forgot_is_prepared_again(store: Store) -> None:
    """As one that hands connections from client to client may make it."""
    store.database.write(lambda c: _ADD.later(c, [{"name": "x", "value": 1}]))
    store.database.write(lambda c: c.exec_driver_sql("DEALLOCATE ALL") and None)
    store.database.write(lambda c: _ADD.later(c, [{"name": "y", "value": 1}]))
    names = sa.select(counters.c.name).order_by(counters.c.name)
    assert store.database.read(lambda c: c.execute(names).scalars().all()) == ["x", "y"]


def test_a_statement_that_cannot_be_sent_fails_its_unit_alone(store: Store) -> None:
    """The driver's own errors look like those of a lost connection."""
    begun, go_on = threading.Event(), threading.Event()

    def hold(_connection: Connection) -> None:
        begun.set()
        assert go_on.wait(WAIT_S)

    runs: list[int] = []

    def too_long(connection: Connection) -> None:
        runs.append(1)
        names = [str(n) for n in range(70_000)]
        connection.execute(sa.select(counters.c.name).where(counters.c.name.in_(names)))

    holding = store.database.submit(hold)
    assert begun.wait(WAIT_S)
    refused = store.database.submit(too_long)
    another = store.database.submit(lambda c: add_counter(c, "y"))
    go_on.set()
    holding.result(WAIT_S)
    another.result(WAIT_S)
    with pytest.raises(StoreError, match="for now"):
        refused.result(WAIT_S)
    assert runs == [1]


def test_a_restarted_server_is_found_again(store: Store, foreign: Engine) -> None:
    job = add(store)
    end_connections(foreign, "true")
    assert store.jobs.get(job)["id"] == job
    assert add(store)


def test_a_connection_that_ends_before_the_commit_costs_nothing(store: Store) -> None:
    """All of a write goes to the server at once, but it says how far it came."""
    runs: list[int] = []

    def write(connection: Connection) -> None:
        runs.append(1)
        _ADD.later(connection, [{"name": "x", "value": 1}])
        if len(runs) == 1:
            _END_THIS.later(connection, [{}])

    assert add(store)  # or the connection, being fresh, would be tried first
    store.database.write(write)
    assert runs == [1, 1]
    names = sa.select(counters.c.name)
    assert store.database.read(lambda c: c.execute(names).scalars().all()) == ["x"]


def test_a_store_that_cannot_be_reached_says_which_and_no_password(store_url: str) -> None:
    url = make_url(store_url).set(password="hidden", database="none")
    store = open_store(url.render_as_string(hide_password=False), Clock())
    with pytest.raises(StoreError, match="none") as caught:
        store.start()
    assert "hidden" not in str(caught.value)


def test_a_database_that_cannot_hold_all_text_is_refused(store_url: str, foreign: Engine) -> None:
    url = make_url(store_url)
    name = f"{url.database}_latin"
    with foreign.connect() as connection:
        connection.exec_driver_sql(
            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING LATIN1 "
            "LOCALE_PROVIDER libc LOCALE 'C'"
        )
    try:
        store = open_store(url.set(database=name).render_as_string(hide_password=False), Clock())
        with pytest.raises(StoreError, match="LATIN1"):
            store.start()
    finally:
        with foreign.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
