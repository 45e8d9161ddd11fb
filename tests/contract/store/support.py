"""Documents and messages for the store's tests."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.dialects import sqlite

from job_engine.model import Fence, JobState
from job_engine.model.acl import normalise
from job_engine.model.protocol.claims import (
    ClaimItem,
    ClaimReply,
    ClaimRequest,
    Report,
    ReportKind,
    ReportReceipt,
)
from job_engine.model.protocol.feed import EntryItem
from job_engine.store.base import Document
from job_engine.store.store import Store

ON_SQLITE = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
"""For a test of how one backend does what all of them do."""
ON_POSTGRES = pytest.mark.parametrize(
    "backend", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)

NOW_MS = 1_700_000_000_000
FENCE = Fence(1, 10)


class Clock:
    """Stands still until it is moved."""

    def __init__(self, now_ms: int = NOW_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now_ms += round(seconds * 1000)


def document(action: str = "noop", **more: Any) -> Document:
    """A valid new job; keywords are attributes, with underscores for dashes."""
    attributes = {key.replace("_", "-"): value for key, value in more.items()}
    return {
        "id": f"job/{uuid.uuid4()}",
        "action": action,
        "state": "QUEUED",
        "progress": 0,
        "version": 2,
        "execution-mode": "push",
        "created-by": "user/teacher",
        "acl": normalise({"owners": ["user/teacher"]}),
        **attributes,
    }


def add(store: Store, action: str = "noop", **more: Any) -> str:
    """Store a new job, and return its id."""
    return str(store.jobs.add(document(action, **more))["id"])


def entry(number: int, priority: int = 999) -> str:
    """The name of a queue entry."""
    return f"entry-{priority:03d}-{number:010d}"


def push(store: Store, job: str, number: int = 1) -> str:
    """Record an entry on a job, and return its name."""
    name = entry(number)
    assert store.feed.pushed([EntryItem(job=job, entry=name)]) == [True]
    return name


def claim(
    store: Store, job: str, name: str, fence: Fence, *, actions: tuple[str, ...] = ("noop",)
) -> ClaimReply:
    """Claim one job."""
    request = ClaimRequest(
        executor="executor-1",
        actions=list(actions),
        claims=[ClaimItem(job=job, entry=name, fence=fence)],
    )
    (reply,) = store.claims.claim(request)
    return reply


def report(store: Store, job: str, fence: Fence, kind: ReportKind, **more: Any) -> ReportReceipt:
    """Report on one job."""
    message = Report(job=job, fence=fence, kind=kind, **more)
    (receipt,) = store.claims.report([message])
    return receipt


def finish(
    store: Store, job: str, fence: Fence, state: JobState = JobState.SUCCESS, **more: Any
) -> ReportReceipt:
    """Report that a job ended."""
    return report(store, job, fence, ReportKind.FINISH, state=state, **more)


def running(store: Store, fence: Fence = FENCE, **more: Any) -> str:
    """A job that runs under a fence."""
    job = add(store, **more)
    assert claim(store, job, entry(1), fence).answer.runs
    return job


def states(store: Store, after: int = 0) -> list[tuple[str, str]]:
    """Job and state of every event after an id."""
    found = store.events.after(after, limit=100_000).events
    return [(stored.event.job, str(stored.event.state)) for stored in found]


def plan(connection: Connection, statement: object) -> list[str]:
    """Return how SQLite would run a statement, a line a step."""
    compiled = statement.compile(dialect=sqlite.dialect())  # type: ignore[attr-defined]
    filled = compiled.construct_expanded_state()
    asked = connection.exec_driver_sql(
        f"EXPLAIN QUERY PLAN {filled.statement}", tuple(filled.positional_parameters)
    )
    return [row.detail for row in asked]


def check_tally(connection: Connection) -> None:
    """Hold the numbers of jobs against the jobs themselves."""
    counted = text("SELECT audience, action, state, count FROM job_counts WHERE count <> 0")
    there = text(
        "SELECT audience, action, state, count(*) FROM jobs GROUP BY 1, 2, 3 "
        "UNION ALL SELECT '*', action, state, count(*) FROM jobs GROUP BY 1, 2, 3"
    )
    numbers = [set(map(tuple, connection.execute(query))) for query in (counted, there)]
    assert numbers[0] == numbers[1]
