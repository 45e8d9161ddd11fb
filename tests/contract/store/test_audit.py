"""The audit trail: in the transaction of what it tells of, never changed, and bounded."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection

from job_engine.errors import ConflictError
from job_engine.model.acl import normalise
from job_engine.store.audit import FORGET_BATCH, Line
from job_engine.store.base import Document
from job_engine.store.resources import Resource
from job_engine.store.search.query import Query, run
from job_engine.store.search.source import EVENTS
from job_engine.store.store import Store
from tests.contract.store.support import Clock, add, document


def lines(store: Store, claims: frozenset[str] | None = None) -> list[Document]:
    """What somebody with these claims finds, newest first; None: all there is."""
    query = Query(claims=claims)
    page = store.database.read(lambda c: run(c, EVENTS, query, store.clock()))
    return list(page.documents)


def test_a_line_has_user_operation_and_time(store: Store, clock: Clock) -> None:
    store.audit.record(
        Line("job.cancel", "job/x", "user/jane", {"success": True, "content": {"a": [1]}})
    )
    (line,) = lines(store)
    assert line["name"] == "job.cancel"
    assert line["content"] == {"resource": {"href": "job/x"}, "a": [1]}
    assert line["authn-info"] == {"user-id": "user/jane"}
    assert line["created"] == line["updated"] == line["timestamp"]
    number = int(line["id"].partition("/")[2])
    assert store.audit.find(number, None) == line
    assert store.audit.find(number + 1, None) is None


def test_there_are_both_the_write_and_its_line_or_neither(store: Store) -> None:
    def also(connection: Connection) -> None:
        store.audit.append(connection, [Line("job.add", "job/new")])
        raise ConflictError("and then it fails")

    with pytest.raises(ConflictError):
        store.jobs.add_many([document()], also)
    job = add(store)
    with pytest.raises(ConflictError):
        store.jobs.delete(job, lambda _: None, also)
    with pytest.raises(ConflictError):
        store.jobs.cancel(job, lambda _: None, None, also=also)
    resource = Resource({"id": "user/a", "acl": normalise({"owners": ["user/a"]})})
    with pytest.raises(ConflictError):
        store.resources.add(resource, also)
    assert lines(store) == []
    assert store.jobs.get(job)["state"] == "QUEUED"
    assert store.resources.where(EVENTS.base) == []


def test_old_lines_are_forgotten(store: Store, clock: Clock) -> None:
    old = [Line("job.add", f"job/{n}") for n in range(FORGET_BATCH + 1)]
    store.database.write(lambda c: store.audit.append(c, old))
    clock.now_ms += 10_000
    store.audit.record(Line("job.add", "job/new"))
    assert store.audit.forget_older(10) == 0
    clock.now_ms += 1
    assert store.audit.forget_older(10) == FORGET_BATCH + 1
    assert [line["content"]["resource"]["href"] for line in lines(store)] == ["job/new"]


def test_readers_of_a_resources_data_see_its_lines(store: Store) -> None:
    acl = {"owners": ["user/o"], "view-data": ["user/d"], "view-meta": ["user/m"]}
    store.resources.add(Resource({"id": "group/a", "acl": normalise(acl)}))
    store.audit.record(Line("group.edit", "group/a", "user/actor"))
    for somebody, sees in (("o", 1), ("d", 1), ("m", 0), ("actor", 1), ("else", 0)):
        assert len(lines(store, frozenset({f"user/{somebody}"}))) == sees
    store.resources.delete("group/a", lambda _: None)
    for somebody, sees in (("o", 0), ("actor", 1)):
        assert len(lines(store, frozenset({f"user/{somebody}"}))) == sees
