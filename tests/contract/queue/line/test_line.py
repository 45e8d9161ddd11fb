"""The line itself: joining, leaving, and who stands at its head."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionLoss

from job_engine.errors import QueueError
from tests.contract.queue.line.support import (
    LINE,
    SOON_S,
    Join,
    Placed,
    standing,
)
from tests.support.engine import eventually


def test_leaving_the_line_wakes_exactly_one_executor(line: Callable[[str], list[Placed]]) -> None:
    a, b, c, d = line("abcd")
    assert [p.at_head for p in (a, b, c, d)] == [True, True, False, False]
    a.line.leave()
    assert c.promoted()
    assert not d.told.is_set()
    b.line.leave()
    assert d.promoted()


def test_a_line_in_which_one_dies_moves_on(line: Callable[[str], list[Placed]]) -> None:
    a, b, c, d, e = line("abcde")
    c.member.session.stop()
    assert not e.promoted()
    a.line.leave()
    b.line.leave()
    assert d.promoted()
    assert e.promoted()


def test_the_first_in_line_always_knows_its_position(line: Callable[[str], list[Placed]]) -> None:
    """Whatever the order in which they leave."""
    left = line("abcdefgh")
    for leaving in (4, 2, 0, 2, 0, 2):
        left.pop(leaving).line.leave()
        assert left[0].at_head or left[0].promoted()


def test_leaving_and_standing_again_is_at_the_end(line: Callable[[str], list[Placed]]) -> None:
    a, b, c = line("abc")
    a.line.leave()
    assert not a.stand().at_head
    assert c.promoted()
    b.line.leave()
    assert a.promoted()


def test_few_stay_where_they_are_and_many_take_turns(line: Callable[[str], list[Placed]]) -> None:
    a, b = line("ab")
    before = standing(a.member.session.client)
    a.line.took_work()
    a.stand()
    assert standing(a.member.session.client) == before
    (c,) = line("c")
    assert not c.at_head
    a.line.took_work()
    assert not a.stand().at_head
    assert c.promoted()
    assert b.at_head


def test_a_lost_session_stands_again_and_once(
    line: Callable[[str], list[Placed]], zk_hosts: str
) -> None:
    a, b, c = line("abc")
    session = a.member.session
    expired = session.id
    twin = KazooClient(zk_hosts, client_id=session.client.client_id)
    twin.start()
    twin.stop()
    twin.close()
    assert c.promoted()
    eventually(lambda: session.alive() and not session.holds(expired), 10)
    assert not a.stand().at_head
    assert len(standing(b.member.session.client)) == 3
    b.line.leave()
    assert a.promoted()


def test_a_join_whose_reply_is_lost_leaves_one_place(
    line: Callable[[str], list[Placed]], join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = line("ab")
    late = Placed(join("late"))
    client = late.member.session.client
    create = client.create_async

    def create_unheard(*args: Any, **kwargs: Any) -> Any:
        create(*args, **kwargs).get()
        unheard = client.handler.async_result()
        unheard.set_exception(ConnectionLoss())
        return unheard

    with monkeypatch.context() as lost:
        lost.setattr(client, "create_async", create_unheard)
        with pytest.raises(QueueError):
            late.stand()
    assert len(standing(client)) == 3
    late.stand()
    eventually(lambda: len(standing(client)) == 3, SOON_S)
    a.line.leave()
    assert late.promoted()
    assert b.at_head


def test_a_deleted_place_in_the_line_is_created_again(
    line: Callable[[str], list[Placed]], zk: KazooClient
) -> None:
    a, b, c = line("abc")
    zk.delete(f"{LINE}/{standing(zk)[2]}")
    a.line.leave()
    assert c.promoted()
    assert len(standing(zk)) == 2
    assert b.at_head


def test_the_order_survives_the_turn_of_the_sequence() -> None:
    """ZooKeeper counts in 32 bits, with a sign."""
    from job_engine.queue.line import _in_order

    names = [f"idle-{'0' * 16}-{s}" for s in (-2147483647, 2147483646, -2147483648, 2147483647)]
    ordered = [int(name.split("-", 2)[2]) for name in _in_order([*names, "else"], names[2])]
    assert ordered == [2147483646, 2147483647, -2147483648, -2147483647]
    assert all((b - a) % 2**32 == 1 for a, b in pairwise(ordered))
