"""Where a job is done again that a fault of the platform has ended: elsewhere, if there is one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from executor.skips import PATIENCE_S, BrokenHere
from job_engine.model import JobState
from tests.contract.protocol.world import World

RETRY_S = 10
"""Longer than the wait before a first retry, its chance included."""


@pytest.fixture
def world() -> Iterator[World]:
    opened = World()
    yield opened
    opened.close()
    assert not opened.book.broken


@pytest.fixture
def job(world: World) -> str:
    """A job that broke on the first executor, and waits for anybody again."""
    job = world.book.create("one")
    for executor in world.executors:
        executor.claims()
    world.leaders[0].step()
    one = world.executors[0]
    one.claims()
    (run,) = one.runs
    assert run.job.id == job
    one.ends(0, "fault")
    while one.parts._reporter._due():
        one.reports()
    world.pass_time(RETRY_S)
    world.leaders[0].step()
    assert world.zk.entries
    assert not world.zk.taken
    return job


def claims_and_gives_back(world: World, n: int) -> int:
    """Return how many runs an executor has after a look at the queue."""
    executor = world.executors[n]
    executor.claims()
    while executor.parts._reporter._due():
        executor.reports()
    return len(executor.runs)


def test_it_is_left_to_another_executor(world: World, job: str) -> None:
    assert claims_and_gives_back(world, 0) == 0
    assert not world.zk.taken
    # Nor is it claimed and given back over and over: the entry is left alone for a while.
    before = dict(world.zk.entries)
    assert claims_and_gives_back(world, 0) == 0
    assert world.executors[0].parts._claimer._skips(next(iter(before)))
    assert claims_and_gives_back(world, 1) == 1
    world.executors[1].ends(0, "success")
    world.executors[1].reports()
    assert world.book.store.jobs.get_job(job).state is JobState.SUCCESS


def test_where_there_is_no_other_it_is_done_again_at_once(world: World, job: str) -> None:
    world.zk.expire(world.executors[1].session.session_id)
    assert claims_and_gives_back(world, 0) == 1
    assert world.executors[0].runs[0].job.id == job


def test_draining_executors_do_not_count_as_others(world: World, job: str) -> None:
    parts = world.executors[1].parts
    parts.drain()
    parts._queue.describe(parts._queue.register({}), parts._about())
    assert claims_and_gives_back(world, 0) == 1
    assert world.executors[0].runs[0].job.id == job


def test_it_is_not_left_for_ever(world: World, job: str) -> None:
    """no-silent-loss: others may be busy, or broken as well."""
    looks = 0
    while claims_and_gives_back(world, 0) == 0:
        looks += 1
        world.pass_time(1)
        assert looks < 4 * PATIENCE_S
    assert world.executors[0].runs[0].job.id == job


def test_only_jobs_that_failed_here_are_known() -> None:
    broken = BrokenHere()
    broken.add("job/1", "grade", 1.0)
    assert broken.action_of("job/1") == "grade"
    assert broken.action_of("job/2") is None
    broken.add("job/1", "grade", -PATIENCE_S)
    assert broken.action_of("job/1") is None
