"""Schedules of sessions that are hard to meet by chance, one by one."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from job_engine.errors import ClaimLost, QueueError, SessionLostError
from job_engine.model import JobState
from job_engine.queue import QueueClaim
from tests.contract.protocol.executors import ExecutorProcess
from tests.contract.protocol.small_client import Fault
from tests.contract.protocol.world import World


@pytest.fixture
def world() -> Iterator[World]:
    opened = World()
    yield opened
    opened.close()
    assert not opened.book.broken


def _claim(executor: ExecutorProcess) -> list[QueueClaim]:
    queue = executor.parts._queue
    return queue.claim(queue.register({}), 1, lambda _: False)


def _pushed(world: World) -> str:
    job = world.book.create("one")
    for executor in world.executors:
        executor.claims()
    world.leaders[0].step()
    return job


def test_no_session_is_registered_in_another(world: World) -> None:
    """session-bound: kazoo has a new session, which nobody has noticed yet.

    A node made in that one would answer for the claims of the old.
    """
    _pushed(world)
    one, two = world.executors
    late = _claim(one)
    one.session.client.unheard = True
    world.zk.expire(one.session.session_id)
    (claim,) = _claim(two)
    with pytest.raises(SessionLostError):
        one.parts._queue.register({})
    for let_go in (one.parts._queue.consume, one.parts._queue.release):
        with pytest.raises(SessionLostError):
            let_go(late)
    assert list(world.zk.taken) == [claim.entry]


def test_a_claim_whose_reply_was_lost_is_found_again(world: World) -> None:
    _pushed(world)
    one, two = world.executors
    registration = one.parts._queue.register({})
    # Two lists, and the claim itself.
    one.net.faults = [Fault.NONE, Fault.NONE, Fault.REPLY_LOST]
    with pytest.raises(QueueError):
        one.parts._queue.claim(registration, 1, lambda _: False)
    assert len(world.zk.taken) == 1
    one.parts._queue.recover(registration, [])
    assert not world.zk.taken
    assert len(_claim(two)) == 1


def test_an_executor_that_is_cut_off_stops_before_another_one_may_begin(world: World) -> None:
    """lost-means-stop: by its own clock; kazoo says nothing before it has reconnected."""
    _pushed(world)
    one, two = world.executors
    one.claims()
    (run,) = one.runs
    one.net.cut = True
    world.pass_time(12)
    assert isinstance(run.interruption, ClaimLost)
    two.claims()
    assert [other.job.id for other in two.runs] == [run.job.id]
    one.net.cut = False
    one.ends(0, "success")
    one.reports()
    assert world.book.jobs[run.job.id].state is JobState.RUNNING


@pytest.mark.parametrize("noticed", [True, False])
def test_claims_dropped_as_lost_are_released_when_the_session_comes_back(
    world: World, noticed: bool
) -> None:
    """no-silent-loss: our clock has ended a session that ZooKeeper still has.

    It may do so unnoticed, between two looks at it, but not by who asks in between.
    """
    job = _pushed(world)
    one, _ = world.executors
    one.claims()
    if noticed:
        one.net.cut = True
    else:
        one.paused = True
    world.pass_time(8)
    one.paused = False
    one.ends(0, "success")
    one.reports()
    assert one.quiet
    assert len(world.zk.taken) == 1
    one.net.cut = False
    one.session.tick()
    one.claims()
    for _ in one.runs:
        one.ends(0, "success")
    one.reports()
    assert world.book.jobs[job].state is JobState.SUCCESS
    assert not world.zk.taken


def test_the_clock_goes_on_while_kazoo_is_between_two_connections(world: World) -> None:
    """lost-means-stop: for a moment kazoo is CONNECTED, in no session."""
    session = world.executors[0].session
    lost = threading.Event()
    session.on_lost(lost.set)
    session.client._live.clear()
    session._monitor.start()
    for process in world.processes:
        process.paused = True  # so that nobody but the session's own thread looks at its clock
    world.pass_time(8)
    assert lost.wait(10)
    session._stopping.set()
    session._monitor.join(10)


def test_a_claim_that_is_answered_too_late_does_not_run(world: World) -> None:
    """lost-means-stop: the API took longer to answer than the session lasted."""
    _pushed(world)
    one, _ = world.executors

    def cut_off() -> None:
        one.net.cut = True
        world.pass_time(8)

    one.api.before["claim"] = cut_off
    one.claims()
    (run,) = one.runs
    assert isinstance(run.interruption, ClaimLost)


def test_without_the_api_jobs_are_given_back_and_none_is_claimed(world: World) -> None:
    """api-down-means-release."""
    _pushed(world)
    one, _ = world.executors
    one.api.faults["claim"] = Fault.REQUEST_LOST
    one.claims()
    one.reports()
    assert not world.zk.taken
    one.api.faults["ready"] = Fault.REQUEST_LOST
    one.claims()
    assert not world.zk.taken
    one.claims()
    assert len(one.runs) == 1
