"""Waiting for sockets: what is told of them, beside what kazoo's own way tells."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from kazoo.handlers.utils import selector_select

from job_engine.queue.handler import PollingHandler

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def told(*waits: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """What the handler tells, which has to be what kazoo's own way tells."""
    found = PollingHandler().select(*waits)
    assert found == tuple(selector_select(*waits))
    return found


def test_nothing_has_come_until_something_has(pair: Pair) -> None:
    ours, theirs = pair
    assert told([ours], [], [], 0) == ([], [], [])
    theirs.send(b"x")
    assert told([ours], [], [], 5) == ([ours], [], [])
    assert told([ours.fileno()], [], [], None) == ([ours.fileno()], [], [])
    assert told([ours, theirs], [], [], 0.01) == ([ours], [], [])


def test_there_is_room_until_there_is_none(pair: Pair) -> None:
    ours, _ = pair
    assert told([], [ours], [], 5) == ([], [ours], [])
    ours.setblocking(False)
    with suppress(BlockingIOError):
        while ours.send(b"x" * 65536):
            pass
    assert told([], [ours], [], 0.01) == ([], [], [])


def test_a_connection_that_has_ended_can_be_read(pair: Pair) -> None:
    ours, theirs = pair
    theirs.close()
    assert told([ours], [], [], 5) == ([ours], [], [])
    assert ours.recv(1) == b""


def test_a_closed_socket_and_time_that_runs_backwards_are_refused(pair: Pair) -> None:
    ours, _ = pair
    with pytest.raises(ValueError, match="non-negative"):
        PollingHandler().select([ours], [], [], -1)
    ours.close()
    with pytest.raises(ValueError, match="descriptor"):
        PollingHandler().select([ours], [], [], 1)


def test_a_number_beyond_what_select_takes_is_fine(pair: Pair) -> None:
    ours, theirs = pair
    many = [socket.socket() for _ in range(1100)]
    try:
        high = socket.fromfd(ours.fileno(), ours.family, ours.type)
        with high:
            assert high.fileno() > 1024
            theirs.send(b"x")
            assert told([high], [], [], 5) == ([high], [], [])
    finally:
        for one in many:
            one.close()
