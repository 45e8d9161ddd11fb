"""Claims that are made while their claimer does something else, on a real ZooKeeper."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from job_engine.queue import zookeeper
from tests.contract.queue.conftest import Member

Join = Callable[[str], Member]


@pytest.fixture(autouse=True)
def look_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look serves for as long as the test takes, however busy the machine is."""
    monkeypatch.setattr(zookeeper, "LOOK_S", 600.0)


def _never(_entry: str) -> bool:
    return False


def _ahead(member: Member, limit: int) -> list[str] | None:
    """Claim what the last look left over; None: there is not enough of it."""
    collect = member.claims.claim_ahead(member.registration, limit, _never)
    return None if collect is None else [claim.job_id for claim in collect()]


def test_what_a_look_left_over_is_claimed_without_another(join: Join) -> None:
    a, b = join("a"), join("b")
    a.push(*(f"job/{n}" for n in range(6)))
    assert a.claim(2) == ["job/0", "job/1"]
    assert _ahead(a, 2) == ["job/2", "job/3"]
    assert _ahead(a, 2) == ["job/4", "job/5"]
    assert b.claim(6) == []


def test_what_is_left_has_to_be_enough(join: Join) -> None:
    a = join("a")
    a.push("job/0", "job/1", "job/2")
    assert _ahead(a, 1) is None  # nobody has looked yet
    assert a.claim(1) == ["job/0"]
    assert _ahead(a, 3) is None
    assert a.claim(3) == ["job/1", "job/2"]


def test_one_fence_for_all_of_a_batch_and_a_newer_one_for_the_next(join: Join) -> None:
    a = join("a")
    a.push(*(f"job/{n}" for n in range(4)))
    first = a.claims.claim(a.registration, 2, _never)
    collect = a.claims.claim_ahead(a.registration, 2, _never)
    assert collect is not None
    second = collect()
    fences = [{claim.fence for claim in claims} for claims in (first, second)]
    assert [len(each) for each in fences] == [1, 1]
    assert fences[0].pop() < fences[1].pop()


def test_where_somebody_was_faster_nothing_is_claimed_and_it_is_looked_anew(join: Join) -> None:
    a, b = join("a"), join("b")
    a.push(*(f"job/{n}" for n in range(5)))
    assert a.claim(1) == ["job/0"]
    assert b.claim(1) == ["job/1"]
    assert _ahead(a, 2) == []
    assert a.claim(9) == ["job/2", "job/3", "job/4"]
