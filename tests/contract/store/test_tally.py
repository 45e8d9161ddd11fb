"""Numbers of jobs that nobody has to count: exact, whatever was done to the jobs."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, func, select

from job_engine.model import FINAL_STATES, Fence, JobState
from job_engine.model.acl import Right, normalise, rights_of
from job_engine.store.base import Document
from job_engine.store.jobs.edits import Edit
from job_engine.store.search.filter import parse_filter
from job_engine.store.search.job_counts import can_count
from job_engine.store.search.query import Query, run
from job_engine.store.search.source import JOBS
from job_engine.store.store import Store
from job_engine.store.tables import EVERYBODY, audiences, job_counts, jobs
from tests.contract.store.support import NOW_MS, add, claim, document, entry, finish

ACLS: Final = [
    normalise({"owners": ["user/a"]}),
    normalise({"owners": ["user/a"], "view-data": ["user/b"]}),
    normalise({"owners": ["user/b"], "view-meta": ["group/c"]}),
]
CLAIMS: Final = [{"user/a"}, {"user/b"}, {"user/b", "group/c"}, {"group/c"}, {"user/nobody"}]


def kept(connection: Connection) -> dict[tuple[str, str, str], int]:
    c = job_counts.c
    query = select(c.audience, c.action, c.state, func.sum(c.count)).group_by(
        c.audience, c.action, c.state
    )
    return {(a, b, c): int(count) for a, b, c, count in connection.execute(query) if count}


def counted(connection: Connection) -> dict[tuple[str, str, str], int]:
    found: Counter[tuple[str, str, str]] = Counter()
    for audience, action, state in connection.execute(
        select(*jobs.c["audience", "action", "state"])
    ):
        found[audience, action, state] += 1
        found[EVERYBODY, action, state] += 1
    return dict(found)


def check(store: Store) -> None:
    assert store.database.read(kept) == store.database.read(counted)


def edited(store: Store, job: str, **changes: Any) -> None:
    def change(before: Document) -> Edit:
        return Edit({**before, **changes})

    store.jobs.edit(job, lambda _: None, change, "user/a")


def test_whatever_is_done_is_counted(store: Store) -> None:
    first, second, third = (add(store, acl=acl) for acl in ACLS)
    check(store)
    assert claim(store, first, entry(1), Fence(1, 10)).answer.runs
    check(store)
    finish(store, first, Fence(1, 10))
    check(store)
    edited(store, second, action="other", acl=ACLS[2])
    check(store)
    edited(store, second, state="FAILED")
    store.jobs.cancel(third, lambda _: None, None, lambda _: document("clean", acl=ACLS[0]))
    check(store)
    store.jobs.delete(first, lambda _: None)
    check(store)
    store.jobs.delete_where(jobs.c.state.in_(FINAL_STATES))
    check(store)
    assert store.database.read(kept) != {}
    store.jobs.delete_where(jobs.c.seq > 0)
    check(store)


def test_a_creation_that_fails_is_not_counted(store: Store) -> None:
    taken = document()
    store.jobs.add(taken)
    with pytest.raises(Exception, match="conflict"):
        store.jobs.add_many([document(), taken])
    check(store)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    made=st.lists(
        st.tuples(
            st.sampled_from(["grade", "noop"]),
            st.sampled_from(list(JobState)),
            st.sampled_from(range(len(ACLS))),
        ),
        min_size=1,
        max_size=8,
    ),
    text=st.sampled_from(
        [
            None,
            "state='QUEUED'",
            "action='noop' and state!='FAILED'",
            "action^='g' or state=['SUCCESS','FAILED']",
            "state=null",
            "state!=[]",
            "name=null",  # which it cannot tell
        ]
    ),
)
def test_it_tells_what_a_search_would_find(
    store: Store, made: list[tuple[str, JobState, int]], text: str | None
) -> None:
    store.jobs.delete_where(jobs.c.seq > 0)
    store.jobs.add_many([document(a, state=s, acl=ACLS[n]) for a, s, n in made])
    tree = None if text is None else parse_filter(text)
    assert can_count(JOBS, tree) is (text != "name=null")

    def look(connection: Connection) -> None:
        for claims in (None, *CLAIMS):
            page = run(connection, JOBS, Query(tree, claims=claims), NOW_MS)
            assert page.count == len(page.documents)
            seen = [d for d in page.documents if claims is not None]
            assert all(rights_of(d["acl"], claims or ()) & Right.VIEW_META for d in seen)
            if text is None and claims is not None:
                visible = [m for m in made if rights_of(ACLS[m[2]], claims) & Right.VIEW_META]
                assert page.count == len(visible)

    store.database.read(look)


def test_an_audience_is_named_by_all_of_its_rights(store: Store) -> None:
    """Who may not see an attribute finds nothing by it, though the audience sees the job."""
    add(store, acl=ACLS[2])

    def found(text: str, *claims: str) -> int:
        query = Query(parse_filter(text), claims=claims)
        return store.database.read(lambda c: run(c, JOBS, query, NOW_MS)).count

    assert found("state='QUEUED'", "group/c") == 0  # sees metadata only
    assert found("name=null", "group/c") == 1
    assert found("state='QUEUED'", "user/b") == 1


def test_rights_without_jobs_are_deleted(store: Store) -> None:
    def known(connection: Connection) -> set[str]:
        return set(connection.execute(select(audiences.c.principal)).scalars())

    def owned(by: str) -> str:
        return add(store, acl=normalise({"owners": [by]}))

    kept, gone = owned("user/kept"), owned("user/gone")
    assert store.jobs.forget_audiences() == 0
    store.jobs.delete(gone, lambda _: None)
    assert store.jobs.forget_audiences() == 1
    assert store.database.read(known) == {"user/kept"}
    assert store.jobs.get(kept)
    owned("user/gone")  # they are written again when they are needed
    assert store.database.read(known) == {"user/gone", "user/kept"}
