"""A filtered, ordered page of 50 jobs out of a million, through HTTP, with its exact count.

A real API answers one client that keeps its connection, once as an admin and once as the
course platform that created the jobs, and so sees them by their access control lists. The
floor is the same page and count asked of the database's file by bare sqlite3.
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any, Final

import requests
from sqlalchemy import Connection, insert

from benchmarks.figures import Bound, Figure, Peer, Scale, percentile
from benchmarks.servers import api_alone, durability
from job_engine.model import JobState
from job_engine.model.acl import normalise
from job_engine.store.access.audiences import admit, audience_of
from job_engine.store.base import Document
from job_engine.store.factory import open_store
from job_engine.store.fair_share import fairness
from job_engine.store.jobs import tally
from job_engine.store.jobs.documents import new_row
from job_engine.store.prepared import PreparedWrite
from job_engine.store.tables import jobs

PAGE: Final = 50
COURSES: Final = 100
STUDENTS: Final = 2_000
BATCH: Final = 10_000
APART_MS: Final = 20_000
"""Milliseconds from one job's creation to the next: a million are most of a year."""
WAITING: Final = 19
"""One of so many jobs still waits; primes, so that it may be of any action and course."""
FAILED: Final = 17
"""One of so many others failed."""
_INSERT: Final = PreparedWrite(
    insert(jobs), [c.name for c in jobs.c if c.name not in ("seq", "claimed_ms")]
)
PLATFORM: Final = "user/lms"
ADMIN: Final = "an admin"
_LIST: Final = {"select": "id,name,action,state,progress,created,parent"}
"""What a list shows; without it, each job that waits is told its place in line."""
SEARCHES: Final[Mapping[str, Mapping[str, str]]] = {
    "failed, newest first": {"filter": "state='FAILED'", "orderby": "created:desc"},
    "succeeded, of one action": {
        "filter": "state='SUCCESS' and action='grade'",
        "orderby": "created:desc",
    },
    "waiting, oldest first": {
        "filter": "state=['QUEUED', 'RUNNING'] and action='grade'",
        "orderby": "created",
        **_LIST,
    },
    "of one action": {"filter": "action='grade'", "orderby": "created:desc", **_LIST},
    "of a course, not succeeded": {
        "filter": "parent='course/17' and state!='SUCCESS'",
        "orderby": "created:desc",
        **_LIST,
    },
    "waiting, with places in line": {
        "filter": "state='QUEUED' and action='grade'",
        "orderby": "created",
    },
}
PLACES: Final = "waiting, with places in line"
"""Not held to the bound: whose turn is when is worked out anew for every page."""
HEADLINE: Final = "failed, newest first"
_IDENTITIES: Final = {
    ADMIN: "internal group/nuvla-admin group/nuvla-admin group/nuvla-user group/nuvla-anon",
    "who created them": f"{PLATFORM} {PLATFORM} {PLATFORM} group/nuvla-user group/job-submitter",
}
_FLOOR: Final = (
    "SELECT * FROM jobs WHERE state = 'FAILED' ORDER BY created_ms DESC, seq DESC LIMIT 50",
    "SELECT count(*) FROM jobs WHERE state = 'FAILED'",
)


def fill(database_url: str, count: int) -> None:
    """Put jobs into an empty store, as old as they would be; some of them are not over.

    They are written as they are now, past the rules of how a job comes to be: to create a
    million and end most of them would take most of an hour.
    """
    oldest_ms = time.time_ns() // 1_000_000 - count * APART_MS
    store = open_store(database_url)
    store.start()
    try:
        for first in range(0, count, BATCH):
            rows = [_row(n, oldest_ms + n * APART_MS) for n in range(first, first + BATCH)]
            store.database.write(partial(_store, rows))
        store.database.write(_tell_planner)
    finally:
        store.stop()


def _store(rows: Sequence[dict[str, Any]], connection: Connection) -> None:
    _INSERT.run(connection, [{**row, "document": json.dumps(row["document"])} for row in rows])
    admit(connection, {row["audience"]: row["document"]["acl"] for row in rows})
    tally.add(connection, rows)
    fairness.open_lanes(connection, rows)


def _tell_planner(connection: Connection) -> None:
    """Have PostgreSQL look at what is there, as it does by itself before long."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("ANALYZE")


def _row(number: int, created_ms: int) -> dict[str, Any]:
    document = _job(number)
    state = JobState.SUCCESS
    if number % WAITING == 0:
        state = JobState.QUEUED
    elif number % FAILED == 0:
        state = JobState.FAILED
    return {
        **new_row(document),
        "audience": audience_of(document["acl"]),
        "state": str(state),
        "progress": 100 if state.is_final else 0,
        "created_ms": created_ms,
        "updated_ms": created_ms,
    }


def _job(number: int) -> Document:
    digest = f"sha256:{number:064x}"
    return {
        "id": f"job/{uuid.uuid4()}",
        "action": ("grade", "grade", "run_command", "noop")[number % 4],
        "state": "QUEUED",
        "progress": 0,
        "version": 2,
        "execution-mode": "push",
        "created-by": PLATFORM,
        "parent": f"course/{number % COURSES}",
        "payload": json.dumps({"assignment": digest, "submission": {"archive": {"blob": digest}}}),
        "acl": normalise(
            {"owners": [PLATFORM], "view-data": [f"user/student-{number % STUDENTS}"]}
        ),
    }


def searches(url: str, rounds: int) -> dict[tuple[str, str], list[float]]:
    """Ask every search as everybody, in turns; returns milliseconds by who and what."""
    found: dict[tuple[str, str], list[float]] = {}
    with requests.Session() as session:
        for turn in range(rounds + 1):
            for who, header in _IDENTITIES.items():
                for name, search in SEARCHES.items():
                    took = _search(session, url, header, search)
                    if turn:  # the first reads the database's file into memory
                        found.setdefault((who, name), []).append(took)
    return found


def _search(session: requests.Session, url: str, header: str, search: Mapping[str, str]) -> float:
    """Ask one page; returns its milliseconds. Raises `ValueError` unless it is a full one."""
    started = time.perf_counter()
    reply = session.put(
        f"{url}/api/job",
        data={**search, "last": str(PAGE)},
        headers={"nuvla-authn-info": header},
    )
    body = reply.json()
    took = time.perf_counter() - started
    if reply.status_code != 200 or len(body["resources"]) != PAGE or body["count"] < PAGE:
        raise ValueError(f"no page of {PAGE}: {reply.status_code} {reply.text[:200]}")
    return took * 1000


def counts(url: str) -> Iterator[int]:
    """Yield how many jobs are found in each state, by the API."""
    for state in JobState:
        data = {"filter": f"state='{state}'", "last": "0"}
        headers = {"nuvla-authn-info": _IDENTITIES[ADMIN]}
        yield requests.put(f"{url}/api/job", data=data, headers=headers).json()["count"]


def floor(file: str, rounds: int) -> list[float]:
    """Return milliseconds of the headline's page and count, without anything around them."""
    found = []
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        for _ in range(rounds):
            started = time.perf_counter()
            for statement in _FLOOR:
                connection.execute(statement).fetchall()
            found.append((time.perf_counter() - started) * 1000)
    return found


def run(scale: Scale) -> Figure:
    """Measure on SQLite, or in the empty database that the scale names."""
    count = scale.pick(100_000, 1_000_000)
    rounds = scale.pick(20, 100)
    with api_alone(
        partial(fill, count=count), scale.database_url, trusted_peers=["127.0.0.1"]
    ) as running:
        if sum(counts(running.engine.url)) != count:
            raise ValueError("the counts of all states do not add up to all jobs")
        found = searches(running.engine.url, rounds)
        bare = [] if scale.database_url else floor(str(running.store), rounds)
    headline = found[ADMIN, HEADLINE]
    bounded = [key for key in found if key[1] != PLACES]
    slowest = max(bounded, key=lambda key: percentile(found[key], 99))
    return Figure(
        what=f"a page of {PAGE} of {count:,} jobs, {HEADLINE}, with its exact count (median)",
        value=percentile(headline, 50),
        unit="ms",
        higher_is_better=False,
        jobs=count,
        threads=1,
        peers=[Peer("bare sqlite3, the same file", percentile(bare, 50), "reads")] if bare else [],
        bounds=[
            Bound(f"p{p} of {', '.join(key)}, ms", percentile(found[key], p), 50)
            for key, p in (((ADMIN, HEADLINE), 50), ((ADMIN, HEADLINE), 99), (slowest, 99))
        ],
        details={
            f"p{p} of {name}, {who}, ms": percentile(values, p)
            for (who, name), values in found.items()
            for p in (50, 99)
        },
        series={
            f"{name}, {who}": [(percentile(values, p), p / 100) for p in range(1, 100)]
            for (who, name), values in found.items()
        },
        axes=("ms a page", "share of pages"),
        durability=durability(scale.database_url),
    )
