"""Submissions of one assignment are graded in slots that were made before they came."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from job_engine.sandbox.factory import make_sandbox
from job_engine.sandbox.warm import WarmSlots
from job_engine.testing.git_server import GitServer, make_repository
from tests.integration.grading.conftest import EXAMPLES, Desk

SUBMISSIONS = EXAMPLES / "submissions"
NAMES = ("c-make-good", "c-make-partial")
WAIT_S = 30.0


@pytest.fixture
def warm(desk: Desk) -> Iterator[tuple[Desk, WarmSlots]]:
    """A desk whose sandbox keeps slots, as an executor's does."""
    sandbox = make_sandbox(desk.policy)
    pool = WarmSlots(sandbox, slots=2, memory_bytes=2**30, at_once=2)
    with closing(pool):
        pool.start()
        yield replace(desk, sandbox=pool), pool
    assert desk.leftovers(desk.label) == []


def warm_up(desk: Desk, pool: WarmSlots, submission: dict[str, Any]) -> None:
    """Grade often enough that a slot is made ahead, and wait for it."""
    for _ in range(2):
        desk.grade("c-make", submission)
    until = time.monotonic() + WAIT_S
    while not pool.waiting():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_repositories_of_one_host_share_their_slots(
    warm: tuple[Desk, WarmSlots], git_server: GitServer, repositories: Path
) -> None:
    desk, pool = warm
    commits = {
        name: make_repository(SUBMISSIONS / name, repositories / f"{name}-{desk.label}.git")
        for name in NAMES
    }

    def submission(name: str) -> dict[str, Any]:
        return {"git": {"url": git_server.url(f"{name}-{desk.label}.git")}}

    warm_up(desk, pool, submission("c-make-good"))
    hits = pool.hits
    results = desk.grade("c-make", submission("c-make-partial"))
    assert pool.hits == hits + 1
    # Another's slot, and all of its own.
    assert results.receipt.submission == commits["c-make-partial"]
    assert results.score is not None
    assert results.max_score is not None
    assert 0 < results.score < results.max_score
