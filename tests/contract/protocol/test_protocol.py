"""The whole protocol against everything that can happen to it, at any step.

The store, the answers to claims and the leader are the real ones; ZooKeeper is a small
model, and executors are their steps, each of which may be the last. Sessions expire
unnoticed, ZooKeeper is wiped, the store is restored from a copy, leaders are deposed
without knowing, requests and replies are lost, sent twice and delivered late.

What must hold at every step: one-outcome, fenced, and no two live holders of one job.
And when all that has ended, every job is final and the queue is empty.

`PROTOCOL_EXAMPLES` sets how many schedules are tried.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from job_engine.errors import ConflictError, NotFoundError
from job_engine.model import Answer, Fence, JobState
from job_engine.model.protocol import (
    ClaimItem,
    ClaimReply,
    ClaimRequest,
    Receipt,
    Report,
    ReportKind,
)
from job_engine.store.factory import open_store
from tests.contract.protocol.distributors import Fault, LeaderProcess
from tests.contract.protocol.small_zookeeper import SmallZooKeeper
from tests.contract.store.support import Clock, add

ACTIONS = ("one", "two")
JOBS = 3
"""Most that are not final at once."""
EXECUTORS = 2
EXAMPLES = int(os.environ.get("PROTOCOL_EXAMPLES", "60"))


@dataclass
class Hand:
    """A claim as an executor remembers it."""

    entry: str
    job: str
    fence: Fence
    session: int
    asked: bool = False
    runs: bool = False
    """Its action is running."""
    disposal: str | None = None
    """What is left to do with the entry: `consume` or `release`."""


@dataclass
class ExecutorProcess:
    """One executor: the session that it believes in, and what it has in hand."""

    session: int | None = None
    incarnation: int | None = None
    """Set while it is registered."""
    hands: list[Hand] = field(default_factory=list)


@dataclass
class Book:
    """What the test knows of the jobs, in this history of the store."""

    live: list[str] = field(default_factory=list)
    outcomes: dict[str, str] = field(default_factory=dict)
    newest: dict[str, Fence] = field(default_factory=dict)


faults = st.lists(st.sampled_from(Fault), max_size=6)
executors = st.integers(0, EXECUTORS - 1)
pick = st.integers(0, 20)


class Protocol(RuleBasedStateMachine):
    """Distributors, executors and clients in any order."""

    @initialize()
    def open(self) -> None:
        memory = Path("/dev/shm")
        self.directory = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        self.clock = Clock()
        self.zk = SmallZooKeeper()
        self.book = Book()
        self.backup: Book | None = None
        self.late: list[ClaimRequest] = []
        self.gone_since: dict[str, int] = {}
        self.executors = [ExecutorProcess() for _ in range(EXECUTORS)]
        self._open_store()
        places = [(a, s) for a in ACTIONS for s in (1e-9, 3600.0)]
        self.leaders = {
            n: LeaderProcess(action, self.zk, lambda: self.store, reconcile_s)
            for n, (action, reconcile_s) in enumerate(places)
        }
        for n in (0, 2):
            self.leaders[n].elect(self.leaders)
        for action in ACTIONS:
            self.creates(action)

    def _open_store(self) -> None:
        self.store = open_store(f"sqlite:///{self.directory / 'store.sqlite'}", self.clock)
        self.store.start()

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        try:
            self.everything_settles()
        finally:
            self.store.stop()
            shutil.rmtree(self.directory)

    # --- schedules ------------------------------------------------------------
    #
    # Three rules, and within them what happens by its weight: with a rule for each, most
    # schedules would be one disaster after the other, and never get anywhere.

    @rule(
        what=st.sampled_from(
            ["work"] * 5 + ["report"] * 4 + ["let go"] * 3 + ["register", "claim", "ask", "create"]
        ),
        n=executors,
        which=pick,
        kind=st.sampled_from(ReportKind),
        faults=st.lists(st.sampled_from([Fault.NONE, *Fault]), min_size=2, max_size=2),
    )
    def goes_on(self, what: str, n: int, which: int, kind: ReportKind, faults: list[Fault]) -> None:
        match what:
            case "work":
                self.works(n, faults)
            case "report":
                self.reports(n, which, kind, faults[0])
            case "let go":
                self.lets_go(n, which, faults[0])
            case "register":
                self.registers(n)
            case "claim":
                self.claims(n, 1 + which % 3, faults[0])
            case "ask":
                self.asks_the_api(n, faults[0])
            case "create":
                self.creates(ACTIONS[which % len(ACTIONS)])

    @rule(
        what=st.sampled_from(
            ["time"] * 4
            + ["pause"] * 4
            + ["expire"] * 2
            + ["notice"] * 2
            + [
                "late",
                "elect",
                "kill",
                "cancel",
                "delete",
                "wipe",
                "back up",
                "restore",
                "push twice",
            ]
        ),
        n=executors,
        which=pick,
    )
    def happens(self, what: str, n: int, which: int) -> None:
        match what:
            case "time":
                self.clock.advance([1, 11, 61][which % 3])
            case "expire":
                self.session_expires(n)
            case "pause":
                self.is_paused(n)
            case "notice":
                self.notices_the_loss(n)
            case "late":
                self.a_request_arrives_late(which)
            case "elect":
                self.is_elected(which)
            case "kill":
                self.is_killed(n)
            case "cancel":
                self.cancels(which)
            case "delete":
                self.deletes(which)
            case "wipe":
                self.zk.wipe()
            case "back up":
                self.the_store_is_backed_up()
            case "restore":
                self.the_store_is_restored()
            case "push twice":
                self.a_foreign_producer_pushes(which)

    # --- clients --------------------------------------------------------------

    def creates(self, action: str) -> None:
        if len(self.book.live) - len(self.book.outcomes) >= JOBS:
            return
        self.book.live.append(add(self.store, action))

    def cancels(self, n: int) -> None:
        if not self.book.live:
            return
        job = self._job(n)
        entry = self._entry_of(job)
        try:
            self.store.jobs.cancel(job, lambda _: None, None)
        except ConflictError:
            assert job in self.book.outcomes
            return
        self._ended(job, "CANCELED")
        self._tell_leaders(entry)

    def deletes(self, n: int) -> None:
        if not self.book.live:
            return
        job = self._job(n)
        entry = self._entry_of(job)
        self.store.jobs.delete(job, lambda _: None)
        self.book.live.remove(job)
        self.book.outcomes.pop(job, None)
        self._tell_leaders(entry)

    def _job(self, n: int) -> str:
        return self.book.live[n % len(self.book.live)]

    def _entry_of(self, job: str) -> str | None:
        return self.store.jobs.get_job(job).entry

    def _tell_leaders(self, entry: str | None) -> None:
        if entry is not None:
            for leader in self.leaders.values():
                leader.duty.forget(entry)

    def a_foreign_producer_pushes(self, n: int) -> None:
        """The job has two entries then, one of which nobody wrote down."""
        if self.book.live:
            self.zk.push(self._job(n))

    # --- distributors ---------------------------------------------------------

    def is_elected(self, n: int) -> None:
        self.leaders[n % len(self.leaders)].elect(self.leaders)

    @rule(n=pick, faults=faults, between=st.lists(pick, max_size=5))
    def leads(self, n: int, faults: list[Fault], between: list[int]) -> None:
        leader = self.leaders[n % len(self.leaders)]
        leader.net.faults = faults
        turns = [
            lambda: None,
            lambda: self.claims(n % EXECUTORS, 2, Fault.NONE),
            lambda: self.asks_the_api(n % EXECUTORS, Fault.NONE),
            lambda: self.reports(n % EXECUTORS, 0, ReportKind.FINISH, Fault.NONE),
            lambda: self.reports(n % EXECUTORS, 0, ReportKind.RETRY, Fault.NONE),
            lambda: self.reports(n % EXECUTORS, 0, ReportKind.RELEASE, Fault.NONE),
            lambda: self.lets_go(n % EXECUTORS, 0, Fault.NONE),
            lambda: self.leaders[(n + 1) % len(self.leaders)].elect(self.leaders),
            self.leaders[(n + 1) % len(self.leaders)].step,
            lambda: self.session_expires(n % EXECUTORS),
        ]
        leader.net.between = [turns[b % len(turns)] for b in between]
        leader.step()

    # --- executors ------------------------------------------------------------

    def works(self, n: int, faults: list[Fault]) -> None:
        """All that leads up to a run."""
        for leader in self.leaders.values():
            leader.step()
        self.notices_the_loss(n)
        self.registers(n)
        self.claims(n, 2, faults[0])
        self.asks_the_api(n, faults[1])

    def registers(self, n: int) -> None:
        executor = self.executors[n]
        if executor.session is None:
            executor.session = self.zk.connect()
        self._register(executor)

    def _register(self, executor: ExecutorProcess) -> None:
        alive = executor.session in self.zk.sessions
        if not alive or self.zk.incarnation is None or executor.session is None:
            return
        executor.incarnation = self.zk.incarnation
        kept = {(hand.entry, hand.fence.czxid) for hand in executor.hands}
        for name, node in list(self.zk.taken.items()):
            if node.session == executor.session and (name, node.czxid) not in kept:
                self.zk.release(node.session, name, node.czxid)

    def claims(self, n: int, limit: int, fault: Fault) -> None:
        executor = self.executors[n]
        session, incarnation = executor.session, executor.incarnation
        if session is None or incarnation is None or fault is Fault.REQUEST_LOST:
            return
        for name in [e for e in sorted(self.zk.entries) if e not in self.zk.taken][:limit]:
            node = self.zk.take(session, name)
            if node is not None and fault is not Fault.REPLY_LOST:
                fence = Fence(incarnation, node.czxid)
                executor.hands.append(Hand(name, self.zk.entries[name], fence, session))
        if fault is Fault.REPLY_LOST:
            executor.incarnation = None

    def asks_the_api(self, n: int, fault: Fault) -> None:
        executor = self.executors[n]
        asking = [hand for hand in executor.hands if not hand.asked]
        if not asking:
            return
        request = ClaimRequest(
            executor=f"e{n}",
            actions=list(ACTIONS),
            claims=[ClaimItem(job=h.job, entry=h.entry, fence=h.fence) for h in asking],
        )
        if fault is Fault.REQUEST_LOST:
            self.late.append(request)
        replies = [] if fault is Fault.REQUEST_LOST else self._claim(request)
        if fault is Fault.TWICE:
            replies = self._claim(request)
        for hand in asking:
            hand.asked = True
            if fault in (Fault.REQUEST_LOST, Fault.REPLY_LOST):
                hand.disposal = "release"
        for hand, reply in zip(asking, [] if fault is Fault.REPLY_LOST else replies, strict=False):
            self._take_answer(executor, hand, reply)

    def _claim(self, request: ClaimRequest) -> list[ClaimReply]:
        replies = list(self.store.claims.claim(request))
        for item, reply in zip(request.claims, replies, strict=True):
            if reply.answer.runs:
                assert item.job not in self.book.outcomes
                assert item.fence >= self.book.newest.get(item.job, item.fence)
                self.book.newest[item.job] = item.fence
            elif reply.answer is Answer.FINAL and item.job not in self.book.outcomes:
                self._ended(item.job, "FAILED")  # interrupted too often
        return replies

    def _take_answer(self, executor: ExecutorProcess, hand: Hand, reply: ClaimReply) -> None:
        answer = reply.answer
        if answer.runs:
            if hand.session != executor.session:
                hand.disposal = "release"
                return
            others = [h for h in self._live_holders(hand.job) if h is not hand]
            assert not others, f"{answer} to {hand}, but {others} run it"
            hand.runs = True
            return
        consumes = answer.consumes
        if answer is Answer.GONE:
            since = self.gone_since.setdefault(hand.entry, self.clock())
            consumes = self.clock() - since >= 10_000
        if answer is Answer.STALE:
            executor.incarnation = None
        hand.disposal = "consume" if consumes else "release"

    def _live_holders(self, job: str) -> list[Hand]:
        return [
            hand
            for executor in self.executors
            for hand in executor.hands
            if hand.job == job and hand.runs and hand.session in self.zk.sessions
        ]

    def a_request_arrives_late(self, n: int) -> None:
        if self.late:
            self._claim(self.late.pop(n % len(self.late)))

    def reports(self, n: int, which: int, kind: ReportKind, fault: Fault) -> None:
        running = [hand for hand in self.executors[n].hands if hand.runs]
        if running:
            self._report(running[which % len(running)], kind, fault)

    def _report(self, hand: Hand, kind: ReportKind, fault: Fault) -> None:
        message = Report(
            job=hand.job,
            fence=hand.fence,
            kind=kind,
            state=JobState.SUCCESS if kind is ReportKind.FINISH else None,
            retry_after_s=30.0 if kind is ReportKind.RETRY else None,
        )
        if fault is Fault.REQUEST_LOST:
            hand.runs, hand.disposal = False, "release"
            return
        (receipt,) = self.store.claims.report([message])
        if receipt is Receipt.ACCEPTED:
            assert hand.fence == self.book.newest.get(hand.job), "a stale fence wrote"
            if kind is ReportKind.FINISH:
                self._ended(hand.job, "SUCCESS")
        if fault is Fault.TWICE:
            (receipt,) = self.store.claims.report([message])
        if fault is Fault.REPLY_LOST:
            hand.runs, hand.disposal = False, "release"
        elif kind is not ReportKind.PROGRESS or receipt is not Receipt.ACCEPTED:
            hand.runs = False
            released = receipt is Receipt.ACCEPTED and kind is ReportKind.RELEASE
            kept = receipt is Receipt.LOST or released
            hand.disposal = "release" if kept else "consume"

    def lets_go(self, n: int, which: int, fault: Fault) -> None:
        executor = self.executors[n]
        leaving = [hand for hand in executor.hands if hand.disposal is not None]
        if not leaving or fault is Fault.REQUEST_LOST:
            return
        hand = leaving[which % len(leaving)]
        if hand.disposal == "consume":
            self.zk.consume(hand.session, hand.entry)
        else:
            self.zk.release(hand.session, hand.entry, hand.fence.czxid)
        if fault is Fault.REPLY_LOST:
            # It is done again, and until then the entry is anybody's.
            self.works((n + 1) % EXECUTORS, [Fault.NONE, Fault.NONE])
        else:
            executor.hands.remove(hand)

    # --- what happens ---------------------------------------------------------

    def session_expires(self, n: int) -> None:
        """The executor does not know: it is paused, or cut off."""
        session = self.executors[n].session
        if session is not None:
            self.zk.expire(session)

    def is_paused(self, n: int) -> None:
        """Its session ends, and another runs what it believes to run."""
        self.session_expires(n)
        self.works((n + 1) % EXECUTORS, [Fault.NONE, Fault.NONE])

    def notices_the_loss(self, n: int) -> None:
        executor = self.executors[n]
        if executor.session is not None and executor.session not in self.zk.sessions:
            self._lose(executor)

    def _lose(self, executor: ExecutorProcess) -> None:
        """Interrupt everything; a request that is under way stays so."""
        executor.session = self.zk.connect()
        executor.incarnation = None
        executor.hands = [hand for hand in executor.hands if not hand.asked]

    def is_killed(self, n: int) -> None:
        executor = self.executors[n]
        if executor.session is not None:
            self.zk.expire(executor.session)
        self.executors[n] = ExecutorProcess()

    def the_store_is_backed_up(self) -> None:
        self.store.stop()
        shutil.copy(self.directory / "store.sqlite", self.directory / "copy.sqlite")
        self.backup = deepcopy(self.book)
        self._open_store()

    def the_store_is_restored(self) -> None:
        if self.backup is None:
            return
        self.store.stop()
        for leftover in self.directory.glob("store.sqlite-*"):
            leftover.unlink()
        shutil.copy(self.directory / "copy.sqlite", self.directory / "store.sqlite")
        self.book = deepcopy(self.backup)
        self._open_store()

    # --- what must hold -------------------------------------------------------

    def _ended(self, job: str, state: str) -> None:
        assert job not in self.book.outcomes, f"{job} ended twice"
        self.book.outcomes[job] = state

    @invariant()
    def every_outcome_stays(self) -> None:
        if not hasattr(self, "store"):
            return
        for job in self.book.live:
            state = self.store.jobs.get(job)["state"]
            expected = self.book.outcomes.get(job)
            assert state == expected or (expected is None and state in ("QUEUED", "RUNNING"))

    def everything_settles(self) -> None:
        """Nothing breaks any more: everybody works until there is nothing left to do."""
        for n in (0, 2):
            self.leaders[n].elect(self.leaders)
        for _ in range(30):
            self.clock.advance(61)
            for leader in self.leaders.values():
                leader.step()
            for n, executor in enumerate(self.executors):
                if executor.session not in self.zk.sessions:
                    self._lose(executor)
                self._register(executor)
                self.claims(n, 10, Fault.NONE)
                self.asks_the_api(n, Fault.NONE)
                for hand in [hand for hand in executor.hands if hand.runs]:
                    self._report(hand, ReportKind.FINISH, Fault.NONE)
                while any(hand.disposal for hand in executor.hands):
                    self.lets_go(n, 0, Fault.NONE)
            if self._settled():
                return
        waiting = {job: self._where(job) for job in self.book.live}
        raise AssertionError(f"not settled: {waiting} {self.zk}")

    def _settled(self) -> bool:
        final = all(job in self.book.outcomes for job in self.book.live)
        return final and not self.zk.entries and not self.zk.taken

    def _where(self, job: str) -> str:
        try:
            return repr(self.store.jobs.get_job(job))
        except NotFoundError:
            return "gone"


TestProtocol = Protocol.TestCase
TestProtocol.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
