"""A connection that breaks under a session that goes on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from kazoo.client import KazooClient

from distributor.candidate import Candidate, Duty, Leadership
from job_engine.errors import ApiError, ApiUnavailableError, QueueError
from job_engine.queue import layout
from job_engine.queue.fleet import request_drain, watch_drain
from tests.contract.queue.conftest import Member
from tests.support.engine import eventually

Join = Callable[[str], Member]


def _break_connection(client: KazooClient) -> None:
    connection: Any = client._connection
    connection._socket.shutdown(socket.SHUT_RDWR)


def test_a_request_to_drain_is_heard_after_the_connection_broke(
    join: Join, zk: KazooClient
) -> None:
    member = join("e")
    about = {"name": "e", "host": "h", "threads": 1, "actions": [], "version": "0"}
    member.claims.describe(member.registration, about)
    asked = threading.Event()

    def watch() -> None:
        unwatched = threading.Event()
        watch_drain(member.session.client, "e", on_request=asked.set, on_unwatched=unwatched.set)
        assert not asked.is_set()
        _break_connection(member.session.client)
        assert unwatched.wait(10)

    watch()
    assert eventually(lambda: member.session.client.connected)
    assert member.session.holds(member.registration.session_id)
    watch_drain(member.session.client, "e", on_request=asked.set, on_unwatched=lambda: None)
    request_drain(zk, "e")
    assert asked.wait(10)


class _Elected(Duty):
    """Notes what it has to do; its first steps may break."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls: list[str] = []
        self.elected = threading.Event()

    def take_over(self, leadership: Leadership) -> None:
        assert leadership.holds()
        self.calls.append("take over")

    def step(self, leadership: Leadership) -> float:
        self.calls.append("step")
        if self.errors:
            raise self.errors.pop(0)
        self.elected.set()
        return 60.0


def test_a_candidate_does_not_wait_for_its_own_earlier_node(join: Join, zk: KazooClient) -> None:
    """kazoo leaves the node behind when its deletion goes unanswered twice."""
    member = join("d")
    client = member.session.client
    client.ensure_path(layout.election("noop"))
    left = client.create(
        f"{layout.election('noop')}/00__lock__", b"d", ephemeral=True, sequence=True
    )
    duty = _Elected()
    candidate = Candidate(member.session, "noop", "d", duty)
    candidate.start()
    assert duty.elected.wait(10)
    assert zk.exists(left) is None
    candidate.ask_to_stop()
    candidate.join(5)


@pytest.mark.parametrize("error", [ApiError(), ApiUnavailableError(), QueueError()])
def test_a_leader_that_lost_an_answer_takes_over_again(join: Join, error: Exception) -> None:
    """bounded-window: what it pushed and could not record would be pushed once more."""
    duty = _Elected(error)
    candidate = Candidate(join("d").session, "noop", "d", duty)
    candidate.start()
    assert duty.elected.wait(10)
    assert duty.calls == ["take over", "step", "take over", "step"]
    candidate.ask_to_stop()
    candidate.join(5)
