"""How PostgreSQL plans the statements that run most: by their own indexes."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from job_engine.store.fair_share import estimate, refill
from job_engine.store.fair_share.turns import Key
from job_engine.store.jobs import backlog, expiry, feed
from job_engine.store.search.filter import parse_filter
from job_engine.store.search.query import Query, condition_of, page_of
from job_engine.store.search.source import JOBS
from job_engine.store.store import Store
from tests.contract.store.support import NOW_MS, ON_POSTGRES, document

pytestmark = ON_POSTGRES

LANE = Key("noop", 5, "a", 2)
NEWEST = {"action": "noop", "newest_version": 2}


def explained(connection: Connection, statement: sa.Select[tuple[object]]) -> str:
    compiled = statement.compile(
        connection, compile_kwargs={"render_postcompile": True, "literal_binds": True}
    )
    return "\n".join(connection.exec_driver_sql(f"EXPLAIN (COSTS OFF) {compiled}").scalars())


@pytest.mark.parametrize(
    ("statement", "indexes"),
    [
        (refill.most_urgent_waiting.params(**NEWEST, most=100), {"jobs_waiting"}),
        (refill.next_due.params(action="noop"), {"jobs_retrying"}),
        (feed.recorded("noop", "job/0", 100), {"jobs_entries"}),
        (refill.oldest_in.params(**LANE._asdict(), most=100), {"jobs_ready"}),
        (refill.ready_lanes.params(**NEWEST, most=100), {"lanes_order", "shares_pkey"}),
        (
            refill.oldest_of_each.params(**LANE.queue._asdict(), names=["a", "b"]),
            {"lanes_pkey", "jobs_ready"},
        ),
        (estimate.first_of.params(**LANE._asdict(), most=100), {"jobs_ready"}),
        (estimate.count_urgent.params(**LANE.queue._asdict(), most=100), {"jobs_ready"}),
        (expiry.expired(NOW_MS, 10), {"jobs_expiring"}),
        (backlog.oldest_queued, {"jobs_state_created"}),
        (backlog.pushed_jobs.params(**NEWEST, most=100), {"jobs_waiting"}),
    ],
    ids=[
        *("waiting", "due", "entries", "oldest", "lanes", "oldest of each"),
        *("first of a lane", "more urgent", "expired", "longest waiting", "pushed"),
    ],
)
def test_hot_statements_walk_their_indexes(
    store: Store, statement: sa.Select[tuple[object]], indexes: set[str]
) -> None:
    store.jobs.add_many([document(priority=n % 1000, parent=f"p/{n % 7}") for n in range(500)])

    def plan(connection: Connection) -> str:
        # A small table is read from end to end, whatever indexes there are.
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
        return explained(connection, statement)

    found = store.database.read(plan)
    assert "Seq Scan" not in found, found
    assert all(f" using {index} " in found for index in indexes), found


def test_a_search_for_an_action_has_an_index_that_the_feed_cannot_take(store: Store) -> None:
    store.jobs.add_many([document(priority=n % 1000) for n in range(500)])
    store.jobs.add_many([document(action="rare") for _ in range(5)])
    query = Query(parse_filter("action='rare'"), limit=50, orderby=[("created", True)])
    page = page_of(JOBS, query, condition_of(JOBS, query, NOW_MS))

    def plans(connection: Connection) -> list[str]:
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
        connection.exec_driver_sql("SET LOCAL enable_sort = off")
        return [
            explained(connection, s)
            for s in (page, refill.oldest_in.params(**LANE._asdict(), most=100))
        ]

    store.database.write(lambda c: c.exec_driver_sql("ANALYZE jobs") and None)
    searched, fed = store.database.read(plans)
    assert " using jobs_searched " in searched, searched
    assert "Presorted Key: jobs.created_ms" in searched or "Presorted Key: created_ms" in searched
    assert " using jobs_ready " in fed, fed
