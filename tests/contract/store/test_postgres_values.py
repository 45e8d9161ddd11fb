"""Text and numbers on PostgreSQL: the same as on SQLite, or refused."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from job_engine.errors import InvalidResourceError
from job_engine.model.protocol.feed import Share
from job_engine.store.store import Store
from job_engine.store.tables import jobs, metadata
from tests.contract.store.support import ON_POSTGRES, add, document

pytestmark = ON_POSTGRES


def test_text_is_compared_by_code_point(store: Store) -> None:
    def collations(connection: Connection) -> set[tuple[str, str, str | None]]:
        found = connection.exec_driver_sql(
            "SELECT table_name, column_name, collation_name FROM information_schema.columns "
            "WHERE table_schema = current_schema() AND data_type = 'text'"
        )
        return {(row[0], row[1], row[2]) for row in found}

    found = store.database.read(collations)
    assert {table for table, _, _ in found} <= set(metadata.tables)
    assert {collation for _, _, collation in found} == {"C"}


def test_names_are_in_the_same_order_as_on_sqlite(store: Store) -> None:
    names = ["B", "Z", "_", "a", "b", "ä", "\uffff", "\U00010000"]
    for name in reversed(names):
        store.shares.set_weight(Share(name=name, weight=1))
    assert [share.name for share in store.shares.list().shares] == names
    assert [share.name for share in store.shares.list(after="Z").shares] == names[2:]


def test_many_jobs_keep_their_texts(store: Store) -> None:
    """They go by `COPY`, whose format has marks of its own for these."""
    texts = ["\\N", "\\.", "a\tb\nc\rd\\", '"{}"', "ä\U0001f600", ""]
    created = store.jobs.add_many([document(name=text, payload=text) for text in texts])
    found = [store.jobs.get(job["id"]) for job in created]
    assert [(job["name"], job["payload"]) for job in found] == [(text, text) for text in texts]
    with pytest.raises(InvalidResourceError):
        store.jobs.add_many([document(name="a"), document(name="a\0b")])


def test_text_with_a_nul_is_refused(store: Store) -> None:
    for bad in (document(name="a\0b"), document(payload="a\0b")):
        with pytest.raises(InvalidResourceError):
            store.jobs.add(bad)
    with pytest.raises(InvalidResourceError):
        store.jobs.get("job/\0")
    assert add(store)


def test_numbers_of_64_bits(store: Store) -> None:
    job = add(store, return_code=2**63 - 1, priority=2**40, big=2**63 - 1, exact=0.1)
    found = store.jobs.get(job)
    assert (found["return-code"], found["priority"]) == (2**63 - 1, 2**40)
    assert (found["big"], found["exact"]) == (2**63 - 1, 0.1)
    above = sa.select(jobs.c.id).where(jobs.c.priority > 2**39)
    assert store.database.read(lambda c: c.execute(above).scalars().all()) == [job]
