"""Idle executors in line: whom an entry wakes, and what it costs ZooKeeper."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from kazoo.client import KazooClient

from job_engine.queue.line import HEADS
from job_engine.queue.local import ask
from tests.contract.queue.conftest import SESSION_TIMEOUT_S
from tests.contract.queue.line.support import (
    LINE,
    SOON_S,
    Idle,
    Join,
    Watches,
    at_rest,
    standing,
)
from tests.support.engine import eventually


def test_only_the_head_watches_the_queue(idle: Callable[..., Idle], watches: Watches) -> None:
    for name in "abcdef":
        idle(name)
    eventually(lambda: watches() == 2 * HEADS + (6 - HEADS), SOON_S)


def test_a_new_entry_wakes_a_handful(idle: Callable[..., Idle], join: Join) -> None:
    everybody = [idle(name) for name in "abcdef"]
    looks = [executor.looks for executor in everybody]
    join("leader").push("job/1")
    eventually(lambda: any(not executor.got.empty() for executor in everybody), SOON_S)
    woken = [e for e, before in zip(everybody, looks, strict=True) if e.looks > before]
    assert len(woken) <= HEADS + 1


def test_a_burst_reaches_everybody(
    idle: Callable[..., Idle], join: Join, zk: KazooClient, watches: Watches
) -> None:
    everybody = [idle(name) for name in "abcdef"]
    join("leader").push(*(f"job/{i}" for i in range(12)))
    eventually(lambda: sum(e.got.qsize() for e in everybody) == 12, SOON_S)
    eventually(lambda: len(standing(zk)) == 6, SOON_S)
    at_rest(zk)
    # Each of the two lists, and one node ahead, at most once a session.
    assert watches() <= 6 * 3


def test_no_watch_accumulates(
    idle: Callable[..., Idle], join: Join, zk: KazooClient, watches: Watches
) -> None:
    everybody = [idle(name) for name in "abcd"]
    leader = join("leader")
    for i in range(30):
        (entry,) = leader.push(f"job/{i}")
        eventually(lambda: any(not e.got.empty() for e in everybody), SOON_S)
        for executor in everybody:
            if not executor.got.empty():
                executor.got.get()
                leader.session.client.delete(f"/job/entries/{entry}")
                leader.session.client.delete(f"/job/taken/{entry}")
    at_rest(zk)
    assert watches() <= 4 * 3


def test_a_release_wakes_the_head(idle: Callable[..., Idle], join: Join) -> None:
    holder = join("holder")
    holder.push("job/1")
    claims = holder.claims.claim(holder.registration, 1, lambda _: False)
    a, b = idle("a"), idle("b")
    holder.claims.release(claims)
    eventually(lambda: not (a.got.empty() and b.got.empty()), SOON_S)


def test_entries_claimed_by_a_dead_executor_are_claimed_without_a_poll(
    idle: Callable[..., Idle], join: Join
) -> None:
    dead = join("dead")
    dead.push("job/1", "job/2")
    assert len(dead.claim(2)) == 2
    a, b, c = idle("a"), idle("b"), idle("c")
    dead.session.stop()
    eventually(lambda: sum(e.got.qsize() for e in (a, b, c)) == 2, SOON_S)


def test_an_entry_skipped_by_the_head_is_claimed_by_an_executor_that_can_run_it(
    idle: Callable[..., Idle], join: Join
) -> None:
    for name in "abc":
        idle(name, skip=lambda _: True)
    able = idle("able")
    join("leader").push("job/1")
    assert able.got.get(timeout=SOON_S) == "job/1"


def test_a_line_that_leaves_everything_alone_comes_to_rest(
    idle: Callable[..., Idle], join: Join, zk: KazooClient
) -> None:
    everybody = [idle(name, skip=lambda _: True) for name in "abcd"]
    before = at_rest(zk)
    join("leader").push("job/1")
    eventually(lambda: zk.exists(LINE).cversion >= before + 2 * len(everybody), SOON_S)
    # Each leaves it to the others once, and stands again.
    assert at_rest(zk) == before + 2 * len(everybody)
    assert len(standing(zk)) == 4


def test_an_executor_that_stands_aside_delays_no_other(
    idle: Callable[..., Idle], join: Join, zk: KazooClient
) -> None:
    busy = [join("x"), join("y")]
    for member in busy:
        assert member.claim() == []
        member.claims.wait(60)
        assert member.claim() == []
    last = idle("last")
    assert len(standing(zk)) == 3
    for member in busy:
        member.claims.stand_aside()
    join("leader").push("job/1")
    assert last.got.get(timeout=SOON_S) == "job/1"


def test_a_session_with_nothing_at_stake_asks_nothing_and_lives(
    join: Join, zookeeper_server: str
) -> None:
    host, _, port = zookeeper_server.partition(":")

    def reads() -> int:
        found = re.search(r"zk_cnt_readlatency\t(\d+)", ask(host, int(port), "mntr"))
        assert found
        return int(found[1])

    member = join("a")
    session_id = member.session.id
    member.session.quiet_while(lambda: True)
    before, until = reads(), time.monotonic() + 2 * SESSION_TIMEOUT_S
    while time.monotonic() < until:
        assert member.session.holds(session_id)
        time.sleep(0.1)
    # ZooKeeper counts pings as reads: one in each 0.27 s at most. Asked, it is 24.
    assert reads() - before <= 16


def test_a_wake_ends_the_wait_of_the_last_in_line(idle: Callable[..., Idle]) -> None:
    for name in "abc":
        idle(name)
    last = idle("last")
    looks = last.looks
    started = time.monotonic()
    last.member.claims.wake()
    eventually(lambda: last.looks > looks, SOON_S)
    assert time.monotonic() - started < SOON_S
