"""The line of idle executors, on a ZooKeeper of its own, which says who watches what."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionLoss

from job_engine.errors import JobEngineError, QueueError
from job_engine.queue import layout
from job_engine.queue.line import HEADS, Line
from job_engine.queue.local import LocalZooKeeper, ask
from tests.conftest import require
from tests.contract.queue.conftest import SESSION_TIMEOUT_S, Member
from tests.support.engine import eventually

Join = Callable[[str], Member]
Watches = Callable[[], int]

LINE = layout.line("/job")
SOON_S = 5.0
"""Far less than any poll: what happens within it was woken."""


@pytest.fixture(scope="module")
def zookeeper_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that nobody else sets watches on."""
    server = LocalZooKeeper(tmp_path_factory.mktemp("zookeeper"), sync=False)
    try:
        server.start()
    except JobEngineError as error:
        require(False, error.message)
    yield server.hosts
    server.stop()


@pytest.fixture
def watches(zookeeper_server: str) -> Watches:
    """How many watches the server keeps, of all sessions."""
    host, _, port = zookeeper_server.partition(":")

    def count() -> int:
        # Not `wchs`, which leaves out the watches on children.
        found = re.search(r"zk_watch_count\t(\d+)", ask(host, int(port), "mntr"))
        assert found
        return int(found[1])

    return count


class Placed:
    """A session's place in line, moved by hand."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.told = threading.Event()
        self.line = Line(member.session, LINE, self.told.set)

    def stand(self) -> Placed:
        """Look where this stands."""
        self.told.clear()
        self.line.stand(self.member.session.id)
        return self

    @property
    def at_head(self) -> bool:
        """Whether this stands at the head, as far as it knows."""
        return self.line.head is not None

    def promoted(self) -> bool:
        """Wait to be told, look again, and say whether this is at the head now."""
        assert self.told.wait(SOON_S)
        return self.stand().at_head


class Idle:
    """An executor with one thread, which keeps what it claims; it claims and waits."""

    def __init__(self, member: Member, skip: Callable[[str], bool] = lambda _: False) -> None:
        self.member = member
        self.skip = skip
        self.looks = 0
        self.got: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Idle:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stopping.set()
        while self._thread.is_alive():
            self.member.claims.wake()
            self._thread.join(0.1)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.looks += 1
            try:
                claims = self.member.claims.claim(self.member.registration, 1, self.skip)
                if not claims:
                    self.member.claims.wait(60)
            except QueueError:
                return
            for claim in claims:
                self.got.put(claim.job_id)


@pytest.fixture
def idle(join: Join) -> Iterator[Callable[..., Idle]]:
    """Start idle executors by name; they stand in line, in this order, when it returns."""
    started: list[Idle] = []

    def start(name: str, **how: Any) -> Idle:
        member = join(name)
        before = len(_standing(member.session.client))
        started.append(Idle(member, **how).start())
        eventually(lambda: len(_standing(member.session.client)) == before + 1, SOON_S)
        return started[-1]

    yield start
    for executor in started:
        executor.stop()


@pytest.fixture
def line(join: Join) -> Callable[[str], list[Placed]]:
    """Sessions that stand in line in this order."""
    return lambda names: [Placed(join(name)).stand() for name in names]


def _standing(client: KazooClient) -> list[str]:
    if not client.exists(LINE):
        return []
    return sorted(client.get_children(LINE), key=lambda name: int(name.rpartition("-")[2]))


def _at_rest(client: KazooClient) -> int:
    """How often the line has changed, once it changes no more."""
    seen: list[int] = []

    def unchanged() -> bool:
        seen.append(client.exists(LINE).cversion)
        return len(seen) > 10 and len(set(seen[-10:])) == 1

    eventually(unchanged, 20, "a line at rest")
    return seen[-1]


# --- the line itself ----------------------------------------------------------


def test_whoever_leaves_wakes_exactly_one(line: Callable[[str], list[Placed]]) -> None:
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


def test_who_is_first_always_knows(line: Callable[[str], list[Placed]]) -> None:
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
    before = _standing(a.member.session.client)
    a.line.took_work()
    a.stand()
    assert _standing(a.member.session.client) == before
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
    assert len(_standing(b.member.session.client)) == 3
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
    assert len(_standing(client)) == 3
    late.stand()
    eventually(lambda: len(_standing(client)) == 3, SOON_S)
    a.line.leave()
    assert late.promoted()
    assert b.at_head


def test_a_place_that_somebody_deleted_is_taken_anew(
    line: Callable[[str], list[Placed]], zk: KazooClient
) -> None:
    a, b, c = line("abc")
    zk.delete(f"{LINE}/{_standing(zk)[2]}")
    a.line.leave()
    assert c.promoted()
    assert len(_standing(zk)) == 2
    assert b.at_head


def test_the_order_survives_the_turn_of_the_sequence() -> None:
    """ZooKeeper counts in 32 bits, with a sign."""
    from job_engine.queue.line import _in_order

    names = [f"idle-{'0' * 16}-{s}" for s in (-2147483647, 2147483646, -2147483648, 2147483647)]
    ordered = [int(name.split("-", 2)[2]) for name in _in_order([*names, "else"], names[2])]
    assert ordered == [2147483646, 2147483647, -2147483648, -2147483647]
    assert all((b - a) % 2**32 == 1 for a, b in pairwise(ordered))


# --- what it is for -----------------------------------------------------------


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
    eventually(lambda: len(_standing(zk)) == 6, SOON_S)
    _at_rest(zk)
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
    _at_rest(zk)
    assert watches() <= 4 * 3


def test_a_release_wakes_the_head(idle: Callable[..., Idle], join: Join) -> None:
    holder = join("holder")
    holder.push("job/1")
    claims = holder.claims.claim(holder.registration, 1, lambda _: False)
    a, b = idle("a"), idle("b")
    holder.claims.release(claims)
    eventually(lambda: not (a.got.empty() and b.got.empty()), SOON_S)


def test_what_the_dead_had_claimed_is_taken_without_a_poll(
    idle: Callable[..., Idle], join: Join
) -> None:
    dead = join("dead")
    dead.push("job/1", "job/2")
    assert len(dead.claim(2)) == 2
    a, b, c = idle("a"), idle("b"), idle("c")
    dead.session.stop()
    eventually(lambda: sum(e.got.qsize() for e in (a, b, c)) == 2, SOON_S)


def test_what_the_head_leaves_alone_reaches_who_can_run_it(
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
    before = _at_rest(zk)
    join("leader").push("job/1")
    eventually(lambda: zk.exists(LINE).cversion >= before + 2 * len(everybody), SOON_S)
    # Each leaves it to the others once, and stands again.
    assert _at_rest(zk) == before + 2 * len(everybody)
    assert len(_standing(zk)) == 4


def test_who_stands_aside_is_not_waited_for(
    idle: Callable[..., Idle], join: Join, zk: KazooClient
) -> None:
    busy = [join("x"), join("y")]
    for member in busy:
        assert member.claim() == []
        member.claims.wait(60)
        assert member.claim() == []
    last = idle("last")
    assert len(_standing(zk)) == 3
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
