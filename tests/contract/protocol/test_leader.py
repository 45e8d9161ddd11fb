"""Schedules of the leader that are hard to meet by chance, one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from job_engine.model.protocol import EntryItem
from job_engine.store.factory import open_store
from job_engine.store.store import Store
from tests.contract.protocol.distributors import Fault, LeaderProcess
from tests.contract.protocol.small_zookeeper import SmallZooKeeper
from tests.contract.store.support import add

WINDOW = 2
"""Of one live thread."""

Lead = Callable[[str], LeaderProcess]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path / 'store.sqlite'}")
    opened.start()
    yield opened
    opened.stop()


@pytest.fixture
def zk() -> SmallZooKeeper:
    return SmallZooKeeper()


@pytest.fixture
def lead(store: Store, zk: SmallZooKeeper) -> Lead:
    """Make the leader of an action, in office and with nothing to do."""

    def make(action: str) -> LeaderProcess:
        leader = LeaderProcess(action, zk, lambda: store, reconcile_s=3600)
        leader.elect({})
        leader.step()
        return leader

    return make


def test_a_store_that_takes_no_writes_does_not_fill_the_queue(
    lead: Lead, store: Store, zk: SmallZooKeeper
) -> None:
    """bounded-window: what was pushed is found again, not pushed again."""
    leader = lead("noop")
    jobs = {add(store) for _ in range(2 * WINDOW)}
    for _ in range(10):
        # Feed and push go through; then nothing is written down.
        leader.net.faults = [Fault.NONE, Fault.NONE, Fault.REQUEST_LOST]
        if zk.entries:
            leader.net.faults = [Fault.NONE, Fault.NONE, Fault.NONE, Fault.REQUEST_LOST]
        leader.step()
        assert len(zk.entries) <= WINDOW
    leader.step()
    assert len(zk.entries) == WINDOW
    assert set(zk.entries.values()) <= jobs


def test_an_entry_that_is_recorded_twice_stays(
    lead: Lead, store: Store, zk: SmallZooKeeper
) -> None:
    """The reply to the first time was lost, and the client asked again."""
    leader = lead("noop")
    job = add(store)
    leader.net.faults = [Fault.NONE, Fault.NONE, Fault.TWICE]
    leader.step()
    assert list(zk.entries.values()) == [job]
    assert store.jobs.get_job(job).entry in zk.entries


def test_an_entry_that_another_action_s_leader_recorded_stays(
    lead: Lead, store: Store, zk: SmallZooKeeper
) -> None:
    leader, other = lead("noop"), lead("other")
    job = add(store)
    other.elect({})
    # The other takes over after the push, and before it is written down.
    leader.net.between = [lambda: None, lambda: None, other.step]
    leader.step()
    assert list(zk.entries.values()) == [job]
    assert store.jobs.get_job(job).entry in zk.entries


def test_a_name_that_a_wiped_zookeeper_gave_to_another_job_is_no_entry(
    lead: Lead, store: Store, zk: SmallZooKeeper
) -> None:
    leader, other = lead("noop"), lead("other")
    job = add(store)
    leader.step()
    name = store.jobs.get_job(job).entry
    zk.wipe()
    stranger = add(store, "other")
    other.elect({})
    other.step()
    assert name is not None
    assert zk.entries == {name: stranger}
    leader.elect({})
    leader.step()
    assert sorted(zk.entries.values()) == sorted([job, stranger])


def test_a_cancel_from_before_the_term_removes_nothing(
    lead: Lead, store: Store, zk: SmallZooKeeper
) -> None:
    leader, other = lead("noop"), lead("other")
    leader.duty.forget(zk.push("job/cancelled"))
    zk.wipe()
    stranger = add(store, "other")
    other.elect({})
    other.step()
    leader.elect({})
    leader.step()
    assert list(zk.entries.values()) == [stranger]


def test_a_deleted_incarnation_is_drawn_anew_while_in_office(
    lead: Lead, zk: SmallZooKeeper, store: Store
) -> None:
    """Until then no executor can register."""
    leader = LeaderProcess("noop", zk, lambda: store, reconcile_s=1e-9)
    leader.elect({})
    leader.step()
    first = zk.incarnation
    zk.incarnation = None
    leader.step()
    assert first is not None
    assert zk.incarnation == first + 1


def test_recording_is_a_compare_and_set(store: Store) -> None:
    job = add(store)
    assert store.feed.pushed([EntryItem(job=job, entry="entry-999-0000000001")]) == [True]
    assert store.feed.pushed([EntryItem(job=job, entry="entry-999-0000000002")]) == [False]
    assert store.jobs.get_job(job).entry == "entry-999-0000000001"
