"""Claims, consumption and release, between real sessions on a real ZooKeeper."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from job_engine.errors import LeadershipLostError, SessionLostError
from tests.contract.queue.conftest import Member

Join = Callable[[str], Member]


def _never(_entry: str) -> bool:
    return False


def test_claims_go_by_priority_then_age(join: Join) -> None:
    a = join("a")
    a.push("job/late", "job/later")
    a.push("job/urgent", priority=10)
    assert a.claim(3) == ["job/urgent", "job/late", "job/later"]


def test_a_claimed_entry_is_nobody_elses(join: Join) -> None:
    a, b = join("a"), join("b")
    a.push("job/1", "job/2")
    assert a.claim(1) == ["job/1"]
    assert b.claim(5) == ["job/2"]


def test_every_entry_has_exactly_one_winner(join: Join) -> None:
    members = [join(f"m{i}") for i in range(4)]
    jobs = [f"job/{i}" for i in range(40)]
    members[0].push(*jobs)
    won: list[str] = []
    barrier = threading.Barrier(len(members))

    def race(member: Member) -> None:
        barrier.wait()
        while got := member.claim(3):
            won.extend(got)

    threads = [threading.Thread(target=race, args=(m,)) for m in members]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A racer that saw everything taken may stop early, but nothing is won twice.
    won.extend(members[0].claim(40))
    assert Counter(won) == Counter(jobs)


def test_an_entry_that_is_gone_is_not_claimed(join: Join, zk: KazooClient) -> None:
    """session-bound: not even for a moment, by who has just seen it."""
    a = join("a")
    gone, _ = a.push("job/1", "job/2")

    def consumed_meanwhile(_entry: str) -> bool:
        with contextlib.suppress(NoNodeError):
            zk.delete(f"/job/entries/{gone}")
        return False

    # Whoever loses a race may skip what comes next, and finds it with the next look.
    claims = a.claims.claim(a.registration, 2, consumed_meanwhile) or a.claims.claim(
        a.registration, 2, _never
    )
    assert [claim.job_id for claim in claims] == ["job/2"]
    _, stat = zk.get("/job/taken")
    assert stat.cversion == 1


def test_an_entry_with_something_below_it_is_consumed(join: Join, zk: KazooClient) -> None:
    """Left where it is, it would be claimed, answered and given back for ever."""
    a = join("a")
    entry, _ = a.push("job/1", "job/2")
    zk.create(f"/job/entries/{entry}/by/hand", makepath=True)
    a.claims.consume(a.claims.claim(a.registration, 2, _never))
    assert zk.get_children("/job/entries") == []
    assert zk.get_children("/job/taken") == []


def test_fences_grow_from_claim_to_claim(join: Join) -> None:
    a, b = join("a"), join("b")
    a.push("job/1")
    (first,) = a.claims.claim(a.registration, 1, _never)
    a.claims.release([first])
    (second,) = b.claims.claim(b.registration, 1, _never)
    assert second.fence > first.fence
    assert second.entry == first.entry


def test_one_transaction_gives_all_its_claims_one_fence(join: Join) -> None:
    a = join("a")
    a.push("job/1", "job/2")
    claims = a.claims.claim(a.registration, 2, _never)
    assert claims[0].fence == claims[1].fence


def test_consuming_leaves_nothing(join: Join, zk: KazooClient) -> None:
    a = join("a")
    a.push("job/1", "job/2")
    claims = a.claims.claim(a.registration, 2, _never)
    a.claims.consume(claims)
    a.claims.consume(claims)
    assert zk.get_children("/job/entries") == []
    assert zk.get_children("/job/taken") == []


def test_consuming_a_deleted_entry_deletes_its_claim(join: Join, zk: KazooClient) -> None:
    a = join("a")
    (entry,) = a.push("job/1")
    claims = a.claims.claim(a.registration, 1, _never)
    zk.delete(f"/job/entries/{entry}")
    a.claims.consume(claims)
    assert zk.get_children("/job/taken") == []


def test_a_late_delete_does_not_touch_the_next_claim(join: Join, zk: KazooClient) -> None:
    """session-bound: the node of the same name belongs to another session by now."""
    a, b = join("a"), join("b")
    a.push("job/1")
    late = a.claims.claim(a.registration, 1, _never)
    a.session.stop()
    assert b.claim() == ["job/1"]
    c = join("a")
    with pytest.raises(SessionLostError):
        c.claims.release(late)
    with pytest.raises(SessionLostError):
        c.claims.consume(late)
    assert len(zk.get_children("/job/taken")) == 1
    assert len(zk.get_children("/job/entries")) == 1


def test_a_release_that_is_done_again_does_not_touch_the_next_claim(
    join: Join, zk: KazooClient
) -> None:
    """session-bound: its reply was lost, and somebody has claimed the entry since."""
    a, b = join("a"), join("b")
    a.push("job/1")
    first = a.claims.claim(a.registration, 1, _never)
    a.claims.release(first)
    assert b.claim() == ["job/1"]
    a.claims.release(first)
    assert len(zk.get_children("/job/taken")) == 1


def test_nor_does_it_touch_the_next_claim_of_its_own_session(join: Join, zk: KazooClient) -> None:
    a = join("a")
    a.push("job/1")
    first = a.claims.claim(a.registration, 1, _never)
    a.claims.release(first)
    (again,) = a.claims.claim(a.registration, 1, _never)
    a.claims.release(first)
    assert zk.get_children("/job/taken") == [again.entry]
    a.claims.release([again])
    assert zk.get_children("/job/taken") == []


def test_recover_deletes_own_claims_that_nobody_holds(join: Join, zk: KazooClient) -> None:
    a, b = join("a"), join("b")
    a.push("job/1", "job/2", "job/3")
    held, forgotten = a.claims.claim(a.registration, 2, _never)
    b.claim()
    a.claims.recover(a.registration, [held])
    taken = zk.get_children("/job/taken")
    assert held.entry in taken
    assert forgotten.entry not in taken
    assert len(taken) == 2


def test_nothing_is_pushed_without_leadership(join: Join, zk: KazooClient) -> None:
    """leader-fenced: the election node is gone, so the transaction is refused whole."""
    a = join("a")
    with pytest.raises(LeadershipLostError):
        a.pushes.push("/election/noop/gone", [("job/1", 5)])
    assert a.pushes.entries() == set()


def test_a_claimed_entry_is_not_removed(join: Join) -> None:
    a = join("a")
    claimed, waiting = a.push("job/1", "job/2")
    a.claim()
    assert not a.pushes.remove(a.registration.node, claimed)
    assert a.pushes.remove(a.registration.node, waiting)
    assert a.pushes.entries() == {claimed}


def test_wait_wakes_for_a_new_entry(join: Join) -> None:
    a = join("a")
    assert a.claim() == []
    woken = threading.Event()

    def wait() -> None:
        a.claims.wait(30)
        woken.set()

    thread = threading.Thread(target=wait)
    thread.start()
    a.push("job/1")
    assert woken.wait(5)
    thread.join()
    assert a.claim() == ["job/1"]
