"""Schedules of the leader that are hard to meet by chance, one by one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from job_engine.model import Answer, Fence, JobState
from job_engine.model.protocol.events import NewJob
from job_engine.model.protocol.feed import EntryItem
from job_engine.queue import layout
from job_engine.store.factory import open_store
from tests.contract.protocol import small_client
from tests.contract.protocol.book import SILENT_S, Book
from tests.contract.protocol.distributors import LeaderProcess
from tests.contract.protocol.small_client import Fault, Net, SmallClient
from tests.contract.protocol.small_zookeeper import SmallZooKeeper, push, take
from tests.contract.protocol.witness import Witness
from tests.contract.store.support import Clock, claim
from tests.databases import BACKENDS, database

WINDOW = 2
"""Of one live thread."""
PER_S = 10
"""How many jobs are taken in a second."""

Lead = Callable[[str], LeaderProcess]


@pytest.fixture(params=BACKENDS)
def book(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Book]:
    clock = Clock()
    with database(request, request.param, tmp_path) as url:
        store = open_store(url, clock)
        store.start()
        opened = Book(store, clock)
        yield opened
        store.stop()
    assert not opened.broken


@pytest.fixture(autouse=True)
def _its_time(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """No session is lost, and nothing is due, because this machine is slow."""
    time = SimpleNamespace(**dict.fromkeys(("monotonic", "time"), lambda: book.clock() / 1000))
    for module in ("distributor.leader", "job_engine.queue.session", small_client.__name__):
        monkeypatch.setattr(f"{module}.time", time)


@pytest.fixture
def witness(book: Book) -> Witness:
    return Witness(SmallZooKeeper(), lambda: book)


@pytest.fixture
def zk(witness: Witness) -> SmallZooKeeper:
    _one_thread(witness.zk)
    return witness.zk


def _one_thread(zk: SmallZooKeeper) -> None:
    """An executor with one thread for both actions lives."""
    client = SmallClient(zk, Net())
    about = {"name": "e", "host": "h", "threads": 1, "actions": ["noop", "other"], "version": "0"}
    client.ensure_path(layout.EXECUTORS)
    client.create(f"{layout.EXECUTORS}/e", json.dumps(about).encode(), ephemeral=True)


@pytest.fixture
def lead(book: Book, zk: SmallZooKeeper) -> Lead:
    """Make the leader of an action, in office and with nothing to do."""

    def make(action: str) -> LeaderProcess:
        leader = LeaderProcess(action, zk, lambda: book, reconcile_s=3600)
        leader.elect({})
        leader.step()
        return leader

    return make


def _wipe(zk: SmallZooKeeper, book: Book) -> None:
    zk.wipe()
    book.wiped()
    _one_thread(zk)


def test_a_store_that_takes_no_writes_does_not_fill_the_queue(
    lead: Lead, book: Book, zk: SmallZooKeeper
) -> None:
    """bounded-window: what was pushed is found again, not pushed again."""
    leader = lead("noop")
    jobs = {book.create("noop") for _ in range(2 * WINDOW)}
    for _ in range(10):
        leader.api.faults["pushed"] = Fault.REQUEST_LOST
        leader.step()
        assert len(zk.entries) <= WINDOW
    leader.step()
    assert len(zk.entries) == WINDOW
    assert set(zk.entries.values()) <= jobs


def test_the_window_grows_with_claimed_entries_only(
    lead: Lead, book: Book, zk: SmallZooKeeper
) -> None:
    """bounded-window: a second's worth of jobs, and what was pushed was not taken."""
    leader = lead("noop")
    for _ in range(100):
        book.create("noop")
    for taken in range(3 * PER_S):
        leader.step()
        waiting = [(name, job) for name, job in zk.entries.items() if _waits(book, job)]
        assert len(waiting) <= max(WINDOW, PER_S)
        book.clock.advance(1 / PER_S)
        (name, job), *_ = waiting
        assert claim(book.store, job, name, Fence(1, 10_000 + taken)).answer.runs
    assert len(waiting) > WINDOW
    book.broken.clear()  # it was not told that anything was taken


def test_an_idle_leader_pushes_what_it_is_told_of_without_asking(
    lead: Lead, book: Book, zk: SmallZooKeeper
) -> None:
    leader = lead("noop")
    leader.api.faults["feed"] = Fault.REQUEST_LOST
    job = book.create("noop")
    leader.duty.offer([NewJob(job=job, action="noop", priority=999, version=2)])
    leader.step()
    assert list(zk.entries.values()) == [job]
    assert leader.api.faults  # nobody asked


@pytest.mark.parametrize("too_many", [True, False])
def test_a_leader_asks_where_not_all_is_told(
    lead: Lead, book: Book, zk: SmallZooKeeper, *, too_many: bool
) -> None:
    """bounded-window, and nothing that waits is forgotten."""
    leader = lead("noop")
    jobs = [book.create("noop") for _ in range(WINDOW + 1 if too_many else WINDOW)]
    told = jobs if too_many else jobs[:1]
    items = [NewJob(job=job, action="noop", priority=999, version=2) for job in told]
    leader.duty.offer(items)
    if not too_many:
        leader.duty.offer([])
    leader.step()
    assert list(zk.entries.values()) == jobs[:WINDOW]


def test_a_leader_on_another_zookeeper_takes_no_job_from_its_executor(
    lead: Lead, book: Book, zk: SmallZooKeeper
) -> None:
    """one-outcome: it has a slip in its chroot, and finds none of the entries."""
    leader = lead("noop")
    job = book.create("noop")
    leader.step()
    (name,) = zk.entries
    assert claim(book.store, job, name, Fence(1, 10_000)).answer.runs
    elsewhere = SmallZooKeeper()
    stray = LeaderProcess("noop", elsewhere, lambda: book, reconcile_s=3600)
    stray.elect({})
    stray.step()
    assert book.store.jobs.get_job(job).state is JobState.RUNNING
    # An empty ZooKeeper in the place of a lost one is no different, until executors come.
    _one_thread(elsewhere)
    book.clock.advance(6)
    stray.session.tick()
    stray.step()
    assert book.store.jobs.get_job(job).state is JobState.QUEUED
    book.broken.clear()  # it knows of one ZooKeeper only


def test_a_pushed_job_is_not_pushed_again(lead: Lead, book: Book, zk: SmallZooKeeper) -> None:
    leader = lead("noop")
    job = book.create("noop")
    leader.step()
    leader.duty.offer([NewJob(job=job, action="noop", priority=999, version=2)])
    leader.step()
    assert list(zk.entries.values()) == [job]


def _waits(book: Book, job: str) -> bool:
    return book.store.jobs.get_job(job).state is JobState.QUEUED


def test_an_entry_that_is_recorded_twice_stays(lead: Lead, book: Book, zk: SmallZooKeeper) -> None:
    """The reply to the first time was lost, and the client asked again."""
    leader = lead("noop")
    job = book.create("noop")
    leader.api.faults["pushed"] = Fault.TWICE
    leader.step()
    assert list(zk.entries.values()) == [job]
    assert book.store.jobs.get_job(job).entry in zk.entries


def test_an_entry_that_another_action_s_leader_recorded_stays(
    lead: Lead, book: Book, zk: SmallZooKeeper
) -> None:
    leader, other = lead("noop"), lead("other")
    job = book.create("noop")
    other.elect({})
    # The other takes over after the push, and before it is written down.
    leader.api.before["pushed"] = other.step
    leader.step()
    assert list(zk.entries.values()) == [job]
    assert book.store.jobs.get_job(job).entry in zk.entries


def test_a_name_that_a_wiped_zookeeper_gave_to_another_job_is_no_entry(
    lead: Lead, book: Book, zk: SmallZooKeeper
) -> None:
    leader, other = lead("noop"), lead("other")
    job = book.create("noop")
    leader.step()
    name = book.store.jobs.get_job(job).entry
    _wipe(zk, book)
    stranger = book.create("other")
    other.elect({})
    other.step()
    assert name is not None
    assert zk.entries == {name: stranger}
    leader.elect({})
    leader.step()
    assert sorted(zk.entries.values()) == sorted([job, stranger])


def test_a_cancel_from_before_the_term_removes_nothing(
    lead: Lead, book: Book, zk: SmallZooKeeper
) -> None:
    leader, other = lead("noop"), lead("other")
    book.ever.add("job/cancelled")
    leader.duty.forget(push(zk, zk.connect(), "job/cancelled"))
    _wipe(zk, book)
    stranger = book.create("other")
    other.elect({})
    other.step()
    leader.elect({})
    leader.step()
    assert list(zk.entries.values()) == [stranger]


def test_a_deleted_incarnation_is_drawn_anew_while_in_office(
    book: Book, zk: SmallZooKeeper
) -> None:
    """Until then no executor can register."""
    leader = LeaderProcess("noop", zk, lambda: book, reconcile_s=1e-9)
    leader.elect({})
    leader.step()
    first = zk.incarnation
    del zk.nodes[layout.INCARNATION]
    leader.step()
    assert first is not None
    assert zk.incarnation == first + 1


def test_recording_is_a_compare_and_set(book: Book) -> None:
    job = book.create("noop")
    assert book.store.feed.pushed([EntryItem(job=job, entry="entry-999-0000000001")]) == [True]
    assert book.store.feed.pushed([EntryItem(job=job, entry="entry-999-0000000002")]) == [False]
    assert book.store.jobs.get_job(job).entry == "entry-999-0000000001"


# --- foreign consumers that die -----------------------------------------------


def _reconciled(leader: LeaderProcess) -> None:
    """Have somebody take over, which reconciles."""
    leader.elect({})
    leader.step()


def test_the_job_of_a_dead_foreign_consumer_is_queued_again(
    lead: Lead, book: Book, zk: SmallZooKeeper
) -> None:
    """no-silent-loss: it consumed the entry, and said nothing more."""
    leader = lead("noop")
    job = book.create("noop")
    leader.step()
    book.edit(job, JobState.RUNNING)
    zk.nodes.pop(f"/job/entries/{book.store.jobs.get_job(job).entry}")
    book.clock.advance(SILENT_S - 1)
    _reconciled(leader)
    assert not zk.entries
    book.clock.advance(1.1)
    _reconciled(leader)
    leader.step()
    assert list(zk.entries.values()) == [job]
    assert book.store.jobs.get_job(job).interruptions == 1


def test_jobs_with_a_foreign_claim_are_left_alone(
    lead: Lead, book: Book, zk: SmallZooKeeper, witness: Witness
) -> None:
    """However long it says nothing, and though the entry that is recorded is another, and gone."""
    leader = lead("noop")
    job = book.create("noop")
    leader.step()
    (recorded,) = zk.entries
    consumer = zk.connect()
    witness.foreign.add(consumer)
    name = push(zk, consumer, job)
    take(zk, consumer, name)
    book.edit(job, JobState.RUNNING)
    del zk.nodes[f"/job/entries/{recorded}"]
    book.clock.advance(10 * SILENT_S)
    _reconciled(leader)
    assert book.jobs[job].state is JobState.RUNNING
    # It dies, and an executor consumes the entry that it does not know.
    zk.expire(consumer)
    del zk.nodes[f"/job/entries/{name}"]
    _reconciled(leader)
    leader.step()
    assert list(zk.entries.values()) == [job]


def test_a_silent_run_with_an_entry_is_resumed_by_the_claimer_of_the_entry(
    lead: Lead, book: Book, zk: SmallZooKeeper
) -> None:
    leader = lead("noop")
    job = book.create("noop")
    leader.step()
    (name,) = zk.entries
    book.edit(job, JobState.RUNNING)
    book.clock.advance(10 * SILENT_S)
    _reconciled(leader)
    assert book.jobs[job].state is JobState.RUNNING
    assert claim(book.store, job, name, Fence(1, 10_000)).answer is Answer.RESUME
    book.broken.clear()  # it was not told that anything was taken
