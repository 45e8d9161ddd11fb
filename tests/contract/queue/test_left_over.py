"""Entries that a listing left over are claimed without another listing, on a real ZooKeeper."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from job_engine.queue import QueueClaim, zookeeper
from tests.contract.queue.conftest import Member

Join = Callable[[str], Member]
URGENT = 0


@pytest.fixture(autouse=True)
def listings_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing is used for as long as the test takes, however busy the machine is."""
    monkeypatch.setattr(zookeeper, "LOOK_S", 600.0)


def _claims(member: Member, limit: int) -> list[QueueClaim]:
    return member.claims.claim(member.registration, limit, lambda _entry: False)


def test_left_over_entries_are_claimed_without_a_listing(join: Join) -> None:
    a, b = join("a"), join("b")
    a.push(*(f"job/{n}" for n in range(6)))
    assert a.claim(2) == ["job/0", "job/1"]
    # A listing would find this one first.
    a.push("job/urgent", priority=URGENT)
    assert a.claim(2) == ["job/2", "job/3"]
    assert a.claim(2) == ["job/4", "job/5"]
    assert b.claim(6) == ["job/urgent"]


def test_too_few_left_over_entries_cause_a_listing(join: Join) -> None:
    a = join("a")
    a.push("job/0", "job/1", "job/2")
    assert a.claim(1) == ["job/0"]
    a.push("job/urgent", priority=URGENT)
    assert a.claim(3) == ["job/urgent", "job/1", "job/2"]


def test_one_fence_for_all_of_a_batch_and_a_newer_one_for_the_next(join: Join) -> None:
    a = join("a")
    a.push(*(f"job/{n}" for n in range(4)))
    fences = [{claim.fence for claim in _claims(a, 2)} for _ in range(2)]
    assert [len(each) for each in fences] == [1, 1]
    assert fences[0].pop() < fences[1].pop()


def test_where_another_executor_was_faster_the_queue_is_listed_anew(join: Join) -> None:
    a, b = join("a"), join("b")
    a.push(*(f"job/{n}" for n in range(5)))
    assert a.claim(1) == ["job/0"]
    assert b.claim(1) == ["job/1"]
    assert a.claim(2) == ["job/2", "job/3"]
