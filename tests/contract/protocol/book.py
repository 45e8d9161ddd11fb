"""What the protocol promises, written down a second time: the model of every job.

Whatever is said to the store is said to the model as well, and whatever changes in
ZooKeeper is shown to it. What does not fit is noted in `broken`, under the invariant's
name in ARCHITECTURE.md: what raises inside the code under test may be caught there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Final

from sqlalchemy import select

from job_engine.errors import ConflictError
from job_engine.model import Answer, Fence, JobState
from job_engine.model.protocol.claims import (
    ClaimItem,
    ClaimReply,
    ClaimRequest,
    Report,
    ReportKind,
    ReportReceipt,
)
from job_engine.model.protocol.feed import EntryItem, FeedReply, ForeignRun
from job_engine.model.timestamps import parse_ms
from job_engine.store.jobs.documents import to_job
from job_engine.store.jobs.edits import Edit
from job_engine.store.store import Store
from job_engine.store.tables import jobs
from tests.contract.protocol.known import Known
from tests.contract.store.support import Clock, add

MOST_INTERRUPTIONS: Final = 10
MOMENT_MS: Final = 100
"""More edits than anybody makes while the clock stands still."""
SILENT_S: Final = 30.0
"""How long a foreign run may say nothing: the timeout of every action."""


@dataclass
class Book:
    """The store, and what has to be in it."""

    store: Store
    clock: Clock
    jobs: dict[str, Known] = field(default_factory=dict)
    ever: set[str] = field(default_factory=set)
    """Every job that was answered 201, in any history of the store."""
    unsure: set[str] = field(default_factory=set)
    """Entries that the store may know wrongly: it was restored, or told late."""
    claimed: set[str] = field(default_factory=set)
    """Entries that were claimed in this life of ZooKeeper."""
    held_abroad: Callable[[], set[str]] = set
    """Jobs of which a foreign consumer holds an entry."""
    broken: list[str] = field(default_factory=list)

    def check(self, holds: bool, invariant: str, what: object) -> None:
        """Note what does not hold."""
        if not holds:
            self.broken.append(f"{invariant}: {what}")

    @contextmanager
    def _answering(self, invariant: str) -> Iterator[None]:
        """Nothing here may raise; and whoever asked would catch it."""
        try:
            yield
        except Exception as error:
            self.broken.append(f"{invariant}: {error!r}")
            raise

    def _set(self, job: str, known: Known) -> None:
        before = self.jobs[job]
        self.check(not before.state.is_final, "one-outcome", f"{before} became {known}")
        self.jobs[job] = known

    # --- clients --------------------------------------------------------------

    def create(self, action: str) -> str:
        """Store a new job."""
        job = add(self.store, action)
        self.jobs[job] = Known(action)
        self.ever.add(job)
        return job

    def cancel(self, job: str) -> None:
        """Cancel a job, which is refused where it is final."""
        refused = self._refused(lambda: self.store.jobs.cancel(job, lambda _: None, None))
        known = self.jobs[job]
        self.check(refused == known.state.is_final, "one-outcome", f"cancel of {known}")
        if not refused:
            self._set(job, replace(known, state=JobState.CANCELED))

    def delete(self, job: str) -> None:
        """Delete a job in any state."""
        self.store.jobs.delete(job, lambda _: None)
        del self.jobs[job]

    def edit(self, job: str, state: JobState) -> None:
        """Say as a foreign consumer that it runs a job (that claims it), or that it has ended."""
        claims = state is JobState.RUNNING
        refused = self._refused(
            lambda: self.store.jobs.edit(
                job, lambda _: None, lambda d: Edit({**d, "state": str(state)}, claims), None
            )
        )
        known = self.jobs[job]
        held = known.state is JobState.RUNNING and known.fence is not None
        right = known.state.is_final or (held and not claims)
        self.check(refused == right, "fenced", f"edit of {known} to {state}")
        if not refused:
            now = replace(known, state=state)
            if claims:
                now = replace(now, fence=None, resumed=False)
            touched_ms = parse_ms(self.store.jobs.get(job)["updated"])
            # Later than the last edit, also where the clock stands still.
            late = self.clock() <= touched_ms < self.clock() + MOMENT_MS
            self.check(late, "one-outcome", f"{known} edited at {touched_ms}")
            self._set(job, replace(now, touched_ms=touched_ms))

    def _refused(self, act: Callable[[], object]) -> bool:
        try:
            act()
        except ConflictError:
            return True
        return False

    # --- executors ------------------------------------------------------------

    def claim(self, request: ClaimRequest) -> list[ClaimReply]:
        """Ask the store, and know better."""
        with self._answering("fenced"):
            replies = list(self.store.claims.claim(request))
        for item, reply in zip(request.claims, replies, strict=True):
            before = self.jobs.get(item.job)
            right = self._answer(item, request.actions)
            self.check(reply.answer is right, "fenced", f"{reply.answer} to {item} of {before}")
        return replies

    def _answer(self, item: ClaimItem, actions: Sequence[str]) -> Answer:
        """The table of ARCHITECTURE.md."""
        known = self.jobs.get(item.job)
        if known is None:
            return Answer.GONE
        if known.state.is_final:
            return Answer.FINAL
        if known.fence is not None and item.fence < known.fence:
            return Answer.STALE
        runs = replace(known, state=JobState.RUNNING, entry=item.entry, fence=item.fence)
        if known.state is JobState.RUNNING:
            if known.entry != item.entry and not known.runs_off_the_record:
                return Answer.DUPLICATE
            if known.fence == item.fence:
                return Answer.RESUME if known.resumed else Answer.RUN
            if known.interruptions >= MOST_INTERRUPTIONS:
                self._set(item.job, replace(known, state=JobState.FAILED))
                return Answer.FINAL
            if known.action not in actions:
                return Answer.UNSUPPORTED
            again = known.interruptions + 1
            self._set(item.job, replace(runs, interruptions=again, resumed=True))
            return Answer.RESUME
        if known.fence == item.fence:
            return Answer.STALE
        if known.due_ms is not None and self.clock() < known.due_ms:
            return Answer.NOT_DUE
        if known.action not in actions:
            return Answer.UNSUPPORTED
        self._set(item.job, replace(runs, due_ms=None, resumed=False))
        return Answer.RUN

    def report(self, reports: Sequence[Report]) -> list[ReportReceipt]:
        """Tell the store, and know what it has to make of it."""
        with self._answering("fenced"):
            receipts = list(self.store.claims.report(reports))
        for report, receipt in zip(reports, receipts, strict=True):
            before = self.jobs.get(report.job)
            right = self._receipt(report)
            self.check(receipt is right, "fenced", f"{receipt} for {report} of {before}")
        return receipts

    def _receipt(self, report: Report) -> ReportReceipt:
        known = self.jobs.get(report.job)
        if known is None or known.state.is_final:
            return ReportReceipt.LOST if known is None else ReportReceipt.FINAL
        if known.state is not JobState.RUNNING or known.fence != report.fence:
            return ReportReceipt.LOST
        match report.kind:
            case ReportKind.FINISH:
                assert report.state is not None
                self._set(report.job, replace(known, state=report.state))
            case ReportKind.RELEASE:
                self._set(report.job, replace(known, state=JobState.QUEUED))
            case ReportKind.RETRY:
                wait_ms = round((report.retry_after_s or 0) * 1000)
                due_ms = self.clock() + wait_ms if wait_ms else None
                again = known.without_entry()
                self._set(report.job, replace(again, due_ms=due_ms, attempts=known.attempts + 1))
        return ReportReceipt.ACCEPTED

    def stray(self, job: str, which: int) -> None:
        """A claim or report that nobody living sends: late, or from a store since restored."""
        known = self.jobs[job]
        if known.fence is None:
            return
        incarnation, czxid = known.fence
        fences = [Fence(incarnation, czxid - 1), Fence(incarnation - 1, czxid + 1)]
        fences += [Fence(incarnation, czxid + 1), Fence(incarnation + 1, czxid - 1)]
        fence = fences[which % len(fences)]
        for kind in (ReportKind.PROGRESS, ReportKind.RETRY):
            self.report([Report(job=job, fence=fence, kind=kind)])
        late = min(fence, known.fence)
        entry = known.entry if late < known.fence else "entry-999-9999999999"
        claims = [ClaimItem(job=job, entry=entry or "", fence=late)]
        if known.state is JobState.RUNNING or (known.due_ms or 0) > self.clock():
            # What holds an entry that came too often, or too early.
            newer = Fence(incarnation, czxid + 1)
            claims.append(ClaimItem(job=job, entry="entry-999-9999999999", fence=newer))
        for item in claims:
            self.claim(ClaimRequest(executor="stray", actions=[known.action], claims=[item]))

    # --- leaders --------------------------------------------------------------

    def feed(self, action: str, window: int) -> FeedReply:
        """Ask what to push: as many as there is room for, and none that has an entry."""
        with self._answering("bounded-window"):
            reply = self.store.feed.feed(action, window)
        waiting = [k for k in self.jobs.values() if k.action == action and k.waits]
        ready = [job for job, k in self.jobs.items() if k.action == action and self._is_ready(k)]
        fed = [item.job for item in reply.jobs]
        self.check(set(fed) <= set(ready), "bounded-window", f"{fed} fed of {ready}")
        room = max(0, window - len(waiting))
        self.check(len(fed) == min(room, len(ready)), "bounded-window", f"{fed}, room for {room}")
        return reply

    def _is_ready(self, known: Known) -> bool:
        due = known.due_ms is None or known.due_ms <= self.clock()
        return known.state is JobState.QUEUED and known.entry is None and due

    def pushed(self, entries: Sequence[EntryItem]) -> Sequence[bool]:
        """Record entries, each where its job has none and is QUEUED, or runs abroad."""
        with self._answering("bounded-window"):
            written = self.store.feed.pushed(entries)
        for item, there in zip(entries, written, strict=True):
            known = self.jobs.get(item.job)
            # One that waits for its retry had this entry, and has lost it: no late word of
            # it is to be believed. Once its time has come and a leader asked, it may be.
            free = known and known.entry is None and (known.due_ms is None or there)
            if known and free and (known.state is JobState.QUEUED or known.runs_off_the_record):
                self._set(item.job, replace(known, entry=item.entry))
                if item.entry in self.claimed:
                    self.unsure.add(item.entry)
            known = self.jobs.get(item.job)
            waits = known is not None and known.waits and known.entry == item.entry
            # Where it runs under this entry both are right: nobody removes a claimed one.
            ours = known is not None and known.entry == item.entry
            self.check(waits <= there <= ours, "bounded-window", f"{item} {there} of {known}")
        return written

    def cleared(self, entries: Sequence[EntryItem]) -> Sequence[bool]:
        """Forget entries, each where its job still has it; who runs it has lost it."""
        with self._answering("no-silent-loss"):
            written = self.store.feed.cleared(entries)
        for item, there in zip(entries, written, strict=True):
            known = self.jobs.get(item.job)
            right = known is not None and known.entry == item.entry and known.may_lose_its_entry
            self.check(there == right, "no-silent-loss", f"cleared {item} {there} of {known}")
            if known is not None and right:
                interrupted = known.state is JobState.RUNNING
                lost = replace(known, interruptions=known.interruptions + interrupted)
                self._set(item.job, lost.without_entry())
        return written

    def requeue(self, runs: Sequence[ForeignRun]) -> Sequence[bool]:
        """Queue what foreign consumers ran that are gone, each where nobody touched it since."""
        with self._answering("no-silent-loss"):
            written = self.store.foreign.requeue(runs)
        for run, there in zip(runs, written, strict=True):
            known = self.jobs.get(run.job)
            as_it_was = known is not None and known.runs_abroad and known.entry == run.entry
            right = as_it_was and known is not None and known.touched_ms == run.updated_ms
            self.check(there == right, "no-silent-loss", f"requeue of {run} {there} of {known}")
            if known is not None and right:
                silent = self.clock() - known.touched_ms >= SILENT_S * 1000
                gone = silent and run.job not in self.held_abroad()
                self.check(gone, "one-outcome", f"{known} is in a foreign consumer's hands")
                lost = replace(known, interruptions=known.interruptions + 1)
                self._set(run.job, lost.without_entry().pushable())
        return written

    # --- disasters ------------------------------------------------------------

    def wiped(self) -> None:
        """ZooKeeper lost everything: what was pushed and not recorded is pushed again."""
        self.unsure.clear()
        self.claimed.clear()
        self.jobs = {j: known.pushable() for j, known in self.jobs.items()}

    def copy(self) -> dict[str, Known]:
        """The jobs as a backup of the store has them."""
        return deepcopy(self.jobs)

    def restored(self, jobs: dict[str, Known], entries: set[str]) -> None:
        """The store has forgotten what came after its backup, while `entries` are there."""
        self.unsure |= entries
        self.jobs = {j: known.pushable() for j, known in jobs.items()}

    # --- the store ------------------------------------------------------------

    def compare(self) -> None:
        """Hold every document against what is known of it."""
        found = self.store.database.read(lambda c: c.execute(select(jobs)).mappings().all())
        rows = {row["id"]: to_job(row, whole=False) for row in found}
        self.check(rows.keys() == self.jobs.keys(), "one-outcome", f"{rows} are there")
        for job, known in self.jobs.items():
            row = rows[job]
            actual = replace(
                known,
                state=row.state,
                entry=row.entry,
                fence=row.fence,
                interruptions=row.interruptions,
                attempts=row.attempts,
                resumed=row.resumed if row.state is JobState.RUNNING else known.resumed,
            )
            self.check(actual == known, "one-outcome", f"{job} is {actual}, not {known}")

    def count_ends(self) -> None:
        """Every final job has ended once, by the events."""
        ends = [e.event.job for e in self.store.events.after(0).events if e.event.state.is_final]
        for job, known in self.jobs.items():
            right = ends.count(job) == known.state.is_final
            self.check(right, "one-outcome", f"{ends.count(job)} ends of {known}")
