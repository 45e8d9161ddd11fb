"""Searches find their index: a page of a million jobs must not read a million jobs.

SQLite's plans do not depend on what is in the tables, since it was never told to analyse
them. PostgreSQL's do, and it decides by its own statistics.
"""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from job_engine.store.search.filter import parse_filter
from job_engine.store.search.query import Lead, Query, condition_of, page_of
from job_engine.store.search.source import JOBS
from job_engine.store.store import Store
from job_engine.store.tables import jobs
from tests.contract.store.support import NOW_MS, ON_SQLITE, plan

SORTS = "USE TEMP B-TREE FOR ORDER BY"
"""All that matches; what is of the same millisecond may have to be sorted still."""
NEWEST = [("created", True)]


pytestmark = ON_SQLITE


def steps(store: Store, query: Query, lead: Lead = Lead.EITHER) -> list[str]:
    statement = page_of(JOBS, query, condition_of(JOBS, query, NOW_MS, lead))
    return store.database.read(lambda c: plan(c, statement))


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize(
    ("text", "index"),
    [
        (None, "SCAN jobs USING INDEX jobs_created"),
        ("state='FAILED'", "SEARCH jobs USING INDEX jobs_state_created (state=?)"),
        (
            "action='grade' and state='FAILED'",
            "SEARCH jobs USING INDEX jobs_action (action=? AND state=?)",
        ),
        ("parent='course/1'", "SEARCH jobs USING INDEX jobs_parent (parent=?)"),
        (
            "parent='course/1' and state!='SUCCESS'",
            "SEARCH jobs USING INDEX jobs_parent (parent=?)",
        ),
        ("created>'now-1d'", "SEARCH jobs USING INDEX jobs_created (created_ms>?)"),
        (
            "state='FAILED' and created>'now-1d'",
            "SEARCH jobs USING INDEX jobs_state_created (state=? AND created_ms>?)",
        ),
    ],
)
def test_a_page_comes_out_of_its_index_in_order(
    store: Store, text: str | None, index: str, descending: bool
) -> None:
    tree = None if text is None else parse_filter(text)
    found = steps(store, Query(tree, limit=50, orderby=[("created", descending)]))
    assert found[0] == index
    assert not any(SORTS in step for step in found), found


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("id='job/1'", "sqlite_autoindex_jobs_1 (id=?)"),
        ("parent-job='job/1'", "jobs_parent_job (parent_job=?)"),
        ("target-resource/href='deployment/1'", "jobs_target (target_href=?)"),
        ("target-resource/href^='deployment/'", "jobs_target (target_href>? AND target_href<?)"),
        # Each state by itself, up to the page's end: all of them are named for this.
        ("action='grade'", "jobs_action (action=? AND state=?)"),
        ("state=['QUEUED','RUNNING']", "jobs_state_created (state=?)"),
    ],
)
def test_comparisons_use_an_index(store: Store, text: str, index: str) -> None:
    found = steps(store, Query(parse_filter(text), limit=50, orderby=NEWEST))
    assert found[0] == f"SEARCH jobs USING INDEX {index}"


@pytest.mark.parametrize("text", [None, "state='FAILED'", "action='grade'", "name='x'"])
def test_a_caller_with_few_documents_is_answered_from_these(store: Store, text: str | None) -> None:
    tree = None if text is None else parse_filter(text)
    query = Query(tree, limit=50, orderby=NEWEST, claims={"user/jane", "group/nuvla-user"})
    assert (
        steps(store, query, Lead.CALLER)[0] == "SEARCH jobs USING INDEX jobs_audience (audience=?)"
    )


@pytest.mark.parametrize(
    ("text", "index"),
    [
        (None, "SCAN jobs USING INDEX jobs_created"),
        ("state='FAILED'", "SEARCH jobs USING INDEX jobs_state_created (state=?)"),
        ("name='x'", "SCAN jobs USING INDEX jobs_created"),
    ],
)
def test_a_caller_with_many_documents_is_answered_in_order(
    store: Store, text: str | None, index: str
) -> None:
    tree = None if text is None else parse_filter(text)
    query = Query(tree, limit=50, orderby=NEWEST, claims={"user/lms", "group/nuvla-user"})
    found = steps(store, query, Lead.FILTER)
    assert found[0] == index
    assert not any(SORTS in step for step in found), found


def test_counts_beyond_the_tally_read_an_index_alone(store: Store) -> None:
    for text in ("created>'now-1d' and state='FAILED'", "parent='course/1' and state!='SUCCESS'"):
        condition = condition_of(JOBS, Query(parse_filter(text)), NOW_MS)
        statement = select(func.count()).select_from(jobs).where(condition)
        (step, *_) = store.database.read(lambda c, s=statement: plan(c, s))  # type: ignore[misc]
        assert "USING COVERING INDEX" in step
