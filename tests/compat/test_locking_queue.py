"""kazoo's own `LockingQueue` and ours share one queue, both ways and side by side."""

from __future__ import annotations

from collections.abc import Callable

from kazoo.client import KazooClient
from kazoo.recipe.queue import LockingQueue

from tests.contract.queue.conftest import Member, join, zk

__all__ = ["join", "zk"]

Join = Callable[[str], Member]


def test_kazoo_puts_and_ours_takes(join: Join, zk: KazooClient) -> None:
    theirs = LockingQueue(zk, "/job")
    theirs.put(b"job/low", priority=100)
    theirs.put(b"6e0e7ee4-bare-uuid", priority=5)
    ours = join("ours")
    assert ours.claim(2) == ["job/6e0e7ee4-bare-uuid", "job/low"]


def test_ours_puts_and_kazoo_takes(join: Join, zk: KazooClient) -> None:
    ours = join("ours")
    ours.push("job/1", priority=50)
    theirs = LockingQueue(zk, "/job")
    assert theirs.get(timeout=5) == b"job/1"
    assert ours.claim() == []
    assert theirs.consume()
    assert ours.pushes.entries() == set()


def test_both_consume_side_by_side(join: Join, zk: KazooClient) -> None:
    ours = join("ours")
    theirs = LockingQueue(zk, "/job")
    jobs = [f"job/{i}" for i in range(20)]
    ours.push(*jobs)
    done: list[str] = []
    while len(done) < len(jobs):
        if claims := ours.claims.claim(ours.registration, 2, lambda _: False):
            ours.claims.consume(claims)
            done += [claim.job_id for claim in claims]
        if (data := theirs.get(timeout=0.2)) is not None:
            assert theirs.consume()
            done.append(data.decode())
    assert sorted(done) == sorted(jobs)
    assert zk.get_children("/job/entries") == []
    assert zk.get_children("/job/taken") == []


def test_an_entry_released_by_kazoo_is_claimed_by_the_engine(join: Join, zk: KazooClient) -> None:
    ours = join("ours")
    ours.push("job/1")
    theirs = LockingQueue(zk, "/job")
    theirs.get(timeout=5)
    theirs.release()
    assert ours.claim() == ["job/1"]


def test_a_leader_knows_what_both_have_claimed(join: Join, zk: KazooClient) -> None:
    ours = join("ours")
    assert ours.pushes.claimed() == set()
    ours.push(*(f"job/{n}" for n in range(100)))
    held = [*ours.claim(64), *ours.claim(16)]
    theirs = LockingQueue(zk, "/job")
    held.append(theirs.get(timeout=5).decode())
    zk.create("/job/taken/entry-999-9999999999", b"whose entry is gone", ephemeral=True)
    assert ours.pushes.claimed() == set(held)
