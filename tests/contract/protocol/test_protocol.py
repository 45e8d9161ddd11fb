"""The whole protocol against everything that can happen to it, at any step.

Store, answers, queue, leader and executor are the real ones; only ZooKeeper is small,
and the API has no wire. Requests and replies are lost, sent twice and delivered late,
processes are cut off, paused and killed, sessions end unnoticed, leaders are deposed
without knowing, ZooKeeper is wiped and the store restored from a copy, and between any
two requests of one process another may have its turn.

What must hold is in `book.py` (every answer, every document), in `witness.py` (every
change in ZooKeeper) and here (who runs what). And when all that has ended, every job
becomes final, and the queue empty.

`PROTOCOL_EXAMPLES` sets how many schedules are tried; with `PROTOCOL_SHRINK=0` one that
fails is shown as it was found.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import URL

from executor.run import Run
from job_engine.model import DEFAULT_PRIORITY, JobState
from job_engine.model.protocol.events import NewJob
from tests.contract.protocol.executors import ACTIONS, ENDS, ExecutorProcess
from tests.contract.protocol.small_client import Fault, Net
from tests.contract.protocol.storage import File, ServerDatabase, Storage
from tests.contract.protocol.world import EXECUTORS, World

JOBS = 3
"""Most that are not final at once."""
EXAMPLES = int(os.environ.get("PROTOCOL_EXAMPLES") or (300 if os.environ.get("CI") else 100))
SHRINK = os.environ.get("PROTOCOL_SHRINK", "1") != "0"

executors = st.integers(0, EXECUTORS - 1)
pick = st.integers(0, 999)
faults = st.one_of(
    st.just([]),
    st.builds(
        lambda n, fault: [Fault.NONE] * n + [fault], st.integers(0, 8), st.sampled_from(Fault)
    ),
    st.lists(st.sampled_from([Fault.NONE, Fault.NONE, *Fault]), max_size=12),
)
between = st.lists(pick, max_size=8)

WORK = ["work"] * 5 + ["claim", "report", "report", "let go", "tell", "create"] + ["end"] * 3
EVENTS = (
    ["time"] * 4
    + ["pause"] * 3
    + ["cut off"] * 2
    + ["expire"] * 3
    + ["resume"] * 4
    + ["late"] * 3
    + ["elect", "kill", "cancel", "delete", "wipe", "back up", "restore", "incarnation"]
    + ["foreign push"] * 3
    + ["foreign claim"] * 3
    + ["foreign end", "foreign death"]
    + ["stray"] * 6
    + ["work"] * 8
    + ["drain"] * 4
)


class Protocol(RuleBasedStateMachine):
    """Distributors, executors and clients in any order."""

    def storage(self) -> Storage:
        """Where the store of a schedule is."""
        return File()

    @initialize()
    def open(self) -> None:
        self.world = World(self.storage())
        self.from_before: set[int] = set()
        """Runs that the store, restored from a copy, does not know."""
        for action in ACTIONS:
            self._create(action)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            if not self.world.book.broken:
                self.everything_settles()
        finally:
            self.world.close()

    # --- schedules ------------------------------------------------------------
    #
    # Few rules, and within them what happens by its weight: with a rule for each, most
    # schedules would be one disaster after the other, and never get anywhere.

    @rule(
        what=st.sampled_from(WORK),
        n=executors,
        which=pick,
        how=st.sampled_from(ENDS),
        faults=faults,
        between=between,
        overtaken=st.sampled_from([None, None, "claim", "report"]),
    )
    def goes_on(
        self,
        what: str,
        n: int,
        which: int,
        how: str,
        faults: list[Fault],
        between: list[int],
        overtaken: str | None,
    ) -> None:
        executor = self.world.executors[n]
        if overtaken is not None:
            executor.api.before[overtaken] = lambda: self._overtakes(n)
        match what:
            case "work":
                self._distribute()
                self._troubled(executor.net, faults, between, executor.claims_on)
            case "claim":
                self._troubled(executor.net, faults, between, executor.claims)
            case "report" | "let go":
                self._troubled(executor.net, faults, between, executor.reports)
            case "end":
                executor.ends(which, how)
                self._troubled(executor.net, faults, between, executor.reports)
                if faults and which % 2:
                    # What was not answered is done again, and others may be faster.
                    self._work(self.world.executors[(n + 1) % EXECUTORS])
                    executor.reports()
            case "tell":
                executor.tells(which)
            case "create":
                self._create(ACTIONS[which % len(ACTIONS)])

    @rule(n=pick, faults=faults, between=between)
    def leads(self, n: int, faults: list[Fault], between: list[int]) -> None:
        leader = self.world.leaders[n % len(self.world.leaders)]
        self._troubled(leader.net, faults, between, leader.step)

    @rule(what=st.sampled_from(EVENTS), n=executors, which=pick)
    def happens(self, what: str, n: int, which: int) -> None:
        world, executor = self.world, self.world.executors[n]
        match what:
            case "work":
                self._work(executor)
            case "drain":
                executor.ends(which, "drained")
                executor.reports()
            case "time":
                world.pass_time([1, 5, 11, 61][which % 4])
            case "pause":
                executor.paused = True
                world.pass_time(11)
                self._work(world.executors[(n + 1) % EXECUTORS])
            case "cut off":
                executor.net.cut = True
                world.pass_time([4, 7, 12][which % 3])
            case "expire":
                self._expires(executor, unheard=bool(which % 2))
            case "resume":
                world.resume(n)
            case "late":
                self._arrives_late(which)
            case "elect":
                world.leaders[which % len(world.leaders)].elect(world.leaders)
            case "kill":
                world.kill(n)
            case "wipe":
                world.wipe()
            case "back up":
                world.back_up()
            case "restore":
                if world.restore():
                    self.from_before |= {id(run) for e in world.executors for run in e.runs}
            case "incarnation":
                world.lose_incarnation()
            case "foreign death":
                world.kill_foreigners()
            case _:
                self._to_a_job(what, which)

    def _to_a_job(self, what: str, which: int) -> None:
        book = self.world.book
        if not book.jobs:
            return
        unfinished = [job for job, known in book.jobs.items() if not known.state.is_final]
        jobs = unfinished if unfinished and which % 4 else list(book.jobs)
        job = jobs[which % len(jobs)]
        entry = book.jobs[job].entry
        match what:
            case "cancel":
                book.cancel(job)
            case "delete":
                book.delete(job)
            case "stray":
                book.stray(job, which // 7)
            case "foreign push":
                self.world.push_as_foreign(job)
            case "foreign claim":
                if which % 3:
                    self.world.claim_as_foreign(job)
                book.edit(job, JobState.RUNNING)
            case "foreign end":
                book.edit(job, JobState.SUCCESS)
        if what in ("cancel", "delete") and entry is not None:
            for leader in self.world.leaders.values():
                leader.duty.forget(entry)

    def _create(self, action: str) -> None:
        open_jobs = [k for k in self.world.book.jobs.values() if not k.state.is_final]
        if len(open_jobs) < JOBS:
            job = self.world.book.create(action)
            told = [NewJob(job=job, action=action, priority=DEFAULT_PRIORITY, version=2)]
            for leader in self.world.leaders.values():
                if leader.action == action:
                    leader.duty.offer(told)

    def _arrives_late(self, which: int) -> None:
        late = [process.api.late for process in self.world.processes if process.api.late]
        if late:
            late[which % len(late)].pop(0)()

    def _expires(self, executor: ExecutorProcess, *, unheard: bool) -> None:
        executor.session.client.unheard = unheard
        self.world.zk.expire(executor.session.session_id)

    def _troubled(
        self, net: Net, faults: list[Fault], between: list[int], act: Callable[[], None]
    ) -> None:
        """Do something while requests get lost, and others have their turns in between."""
        turns = self._turns()
        net.faults = list(faults)
        net.between = [turns[b % len(turns)] for b in between]
        act()
        net.calm()
        for executor in self.world.executors:
            executor.api.before.clear()

    def _turns(self) -> list[Callable[[], None]]:
        one, two = self.world.executors
        return [
            lambda: None,
            one.claims,
            two.claims,
            one.reports,
            two.reports,
            lambda: self._finish(one),
            lambda: self._finish(two),
            lambda: self._expires(one, unheard=True),
            lambda: self._expires(two, unheard=True),
            lambda: self._work(two),
            self._distribute,
            lambda: self.world.leaders[0].elect(self.world.leaders),
            lambda: self.world.leaders[3].elect(self.world.leaders),
            *(lambda n=n: self._to_a_job("stray", n) for n in (1, 9, 18, 27)),
            *(lambda n=n: self._arrives_late(n) for n in (0, 1)),
            *(lambda n=n: self._to_a_job("foreign claim", n) for n in (1, 3)),
        ]

    def _distribute(self) -> None:
        for leader in self.world.leaders.values():
            leader.step()

    def _work(self, executor: ExecutorProcess) -> None:
        self._distribute()
        executor.claims()

    def _overtakes(self, n: int) -> None:
        """The session of one ends on the way to the API, and another is there first."""
        self._expires(self.world.executors[n], unheard=True)
        other = self.world.executors[(n + 1) % EXECUTORS]
        self.world.resume((n + 1) % EXECUTORS)
        self._work(other)

    def _finish(self, executor: ExecutorProcess) -> None:
        executor.ends(0, "success")
        executor.reports()

    # --- what must hold -------------------------------------------------------

    @invariant()
    def nothing_is_broken(self) -> None:
        if hasattr(self, "world"):
            self.world.book.compare()
            assert not self.world.book.broken, self.world.book.broken[0]

    @invariant()
    def one_at_most_runs_a_job(self) -> None:
        """One-outcome: of those who may believe it, that is."""
        if not hasattr(self, "world"):
            return
        holders = Counter(run.job.id for run in self._live_runs() if not self._is_unknown(run))
        assert not holders or max(holders.values()) == 1, holders

    @invariant()
    def who_runs_holds_the_claim(self) -> None:
        """session-bound: nobody has deleted it from under the run."""
        if not hasattr(self, "world"):
            return
        taken = self.world.zk.taken
        for run in self._live_runs():
            node = taken.get(run.claim.entry)
            assert node is not None, run
            assert node.czxid == run.claim.fence.czxid, run
            assert node.owner == run.claim.registration.session_id, run

    def _is_unknown(self, run: Run) -> bool:
        return id(run) in self.from_before

    def _live_runs(self) -> list[Run]:
        return [
            run
            for executor in self.world.executors
            for run in executor.runs
            if run.interruption is None
            and run.claim.registration.session_id in self.world.zk.sessions
        ]

    def everything_settles(self) -> None:
        """no-silent-loss: nothing breaks any more, and everybody works until all is done."""
        world = self.world
        for n in range(EXECUTORS):
            world.resume(n)
        world.kill_foreigners()
        for i in (0, 2):
            world.leaders[i].elect(world.leaders)
        for _ in range(40):
            world.pass_time(61)
            self._distribute()
            for executor in world.executors:
                executor.claims()
                while executor.runs:
                    executor.ends(0, "success")
                executor.reports()
            self.nothing_is_broken()
            if self._settled():
                world.book.count_ends()
                self.nothing_is_broken()
                return
        raise AssertionError(f"not settled: {world.book.jobs} {world.zk.nodes}")

    def _settled(self) -> bool:
        world = self.world
        final = all(known.state.is_final for known in world.book.jobs.values())
        quiet = all(executor.quiet for executor in world.executors)
        return final and quiet and not world.zk.entries and not world.zk.taken


def _settings(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=50,
        deadline=None,
        phases=[phase for phase in Phase if SHRINK or phase not in (Phase.shrink, Phase.explain)],
        suppress_health_check=list(HealthCheck),
    )


TestProtocol = Protocol.TestCase
# A quarter of a second each, on an idle machine, and thirty times that on a busy one.
TestProtocol.pytestmark = [pytest.mark.timeout(60 + 20 * EXAMPLES)]  # type: ignore[attr-defined]
TestProtocol.settings = _settings(EXAMPLES)


@pytest.mark.postgres
@pytest.mark.timeout(60 + 20 * EXAMPLES)
def test_the_protocol_on_postgres(postgres_server: URL, postgres_template: str) -> None:
    """Fewer schedules: each makes a database, and one for every backup."""

    class OnPostgres(Protocol):
        def storage(self) -> Storage:
            return ServerDatabase(postgres_server, postgres_template)

    run_state_machine_as_test(OnPostgres, settings=_settings(max(1, EXAMPLES // 12)))
