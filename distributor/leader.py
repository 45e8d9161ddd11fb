"""The leader of an action: feeds the queue, reconciles it with the store, schedules jobs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from math import inf
from typing import Final

from distributor.candidate import Duty, Leadership
from distributor.due import DueTimer
from distributor.fleet import Fleet
from distributor.incarnation import ensure_incarnation
from distributor.ticks import newest_tick_ms
from distributor.window import LARGEST, DrainMeter, window_size
from job_engine.client import Api
from job_engine.log import get_logger
from job_engine.model.protocol.actions import ActionDescription
from job_engine.model.protocol.events import NewJob
from job_engine.model.protocol.feed import EntryItem, FeedItem
from job_engine.queue import PushQueue, ZooKeeperSession
from job_engine.settings import DistributorSettings

log = get_logger(__name__)

BATCH: Final = 128
"""Jobs pushed in one transaction, at most."""

REMEMBERED: Final = 256
"""Recently pushed jobs that are remembered, so that none is pushed twice."""

RECORD_S: Final = 0.02
"""Seconds that the entry of a job pushed on its own may stay unrecorded. An idle executor
claims it in that time, which records it too, without waiting for the store's writer."""


class ActionLeader(Duty):
    """Keeps the window of one action full."""

    def __init__(
        self,
        action: str,
        *,
        api: Api,
        queue: PushQueue,
        session: ZooKeeperSession,
        fleet: Fleet,
        settings: DistributorSettings,
    ) -> None:
        self._action = action
        self._api = api
        self._queue = queue
        self._session = session
        self._fleet = fleet
        self._settings = settings
        self._meter = DrainMeter()
        self._offered: deque[Sequence[NewJob]] = deque(maxlen=LARGEST)
        self._last_pushed: deque[str] = deque(maxlen=REMEMBERED)
        self._unrecorded: list[EntryItem] = []
        """Entries pushed without asking the API; recorded before it is asked what else to push."""
        self._record_at = inf
        self._next_due_ms: int | None = None
        self._due = DueTimer()
        self._in_queue: int | None = None
        """Entries that were waiting after the last feed; None: unknown."""
        self._reconcile_at = 0.0
        self._adopts = True
        """Whether the queue has not been compared yet in this term."""
        self.backlogged = True
        """Whether jobs may wait behind a full window, which is then refilled as it empties."""
        self._description: ActionDescription | None = None
        self._ticked_ms: int | None = None
        # Also filled while another process leads, so it has to be bounded.
        self._cancelled: deque[str] = deque(maxlen=LARGEST)

    def take_over(self, leadership: Leadership) -> None:
        """Reconcile the queue before anything is pushed."""
        # These are from before this term. If ZooKeeper was wiped since, an entry of the same
        # name may belong to another job. A claim of a cancelled job is answered `final` anyway.
        self._cancelled.clear()
        self._offered.clear()
        self._forget_unrecorded()
        self._in_queue = None
        self._adopts = True
        self._reconcile()

    def step(self, leadership: Leadership) -> float:
        """Do what is due; see `Duty.step`."""
        now = time.monotonic()
        # Once an offered job's entry is overdue, this step only records it, which is cheaper.
        feeds = not self._unrecorded or bool(self._offered) or now < self._record_at
        if self._push_offered(leadership):
            return RECORD_S
        self._record(leadership)
        if now >= self._reconcile_at:
            self._reconcile()
        self._remove_cancelled(leadership)
        self._schedule()
        if feeds or self.backlogged:
            self._next_due_ms = self._feed(leadership)
        patience_s = min(self._settings.poll_s, self._reconcile_at - now)
        if self._next_due_ms is not None:
            # Due by the API's clock, which may be behind this one.
            due_in_s = self._due.wait_s(self._next_due_ms, time.time(), now)
            patience_s = min(patience_s, due_in_s)
        return max(0.0, patience_s)

    # --- feed -----------------------------------------------------------------

    def offer(self, items: Sequence[NewJob]) -> None:
        """Offer jobs that have just become ready, to be pushed without asking the API.

        An empty sequence means that there are such jobs, and the API has to be asked for
        them. For any thread.
        """
        self._offered.append(items)

    def _push_offered(self, leadership: Leadership) -> bool:
        """Push the offered jobs if all of them fit and no other job comes before them.

        Returns whether it did. It saves a request to the API while the engine is idle.
        """
        offers = [self._offered.popleft() for _ in range(len(self._offered))]
        offered = [item for items in offers for item in items]
        window = window_size(self._fleet.threads(self._action), 0.0)
        newest = self._fleet.newest_version(self._action)
        if (
            not offers
            or len(offers) == LARGEST  # full: older ones may have been dropped
            or not all(offers)
            or self.backlogged
            or self._in_queue is None
            or self._in_queue + len(offered) > window
            or time.monotonic() >= self._record_at
            or any(item.version > newest or item.job in self._last_pushed for item in offered)
            or not leadership.holds()
        ):
            return False
        self._unrecorded += self._push(leadership, offered)
        self._record_at = min(self._record_at, time.monotonic() + RECORD_S)
        self._in_queue += len(offered)
        return True

    def _feed(self, leadership: Leadership) -> int | None:
        """Push what the window has room for; return when the next retry is due."""
        # Set before the answer is known, so that a claim in the meantime wakes this leader.
        self.backlogged = True
        threads = self._fleet.threads(self._action)
        if not threads:
            return None
        now = time.monotonic()
        short = self._description is not None and self._description.short
        window = window_size(threads, self._meter.per_s(now), short=short)
        reply = self._api.feed(self._action, window, self._fleet.newest_version(self._action))
        for start in range(0, len(reply.jobs), BATCH):
            if not leadership.holds():
                break
            self._unrecorded += self._push(leadership, reply.jobs[start : start + BATCH])
        # In one request: each waits for the store's writer, which claims and reports keep busy.
        self._record(leadership)
        if not leadership.holds():
            return None
        if self._in_queue is not None:
            self._meter.add(max(0, self._in_queue - reply.waiting), now)
        self._in_queue = reply.waiting + len(reply.jobs)
        self.backlogged = reply.more
        return reply.next_due_ms

    def _push(self, leadership: Leadership, jobs: Sequence[FeedItem]) -> list[EntryItem]:
        # Events lag behind: a job that was just pushed may still be offered.
        self._last_pushed.extend(item.job for item in jobs)
        names = self._queue.push(leadership.node, [(j.job, j.priority) for j in jobs])
        entries = [EntryItem(job=j.job, entry=n) for j, n in zip(jobs, names, strict=True)]
        log.debug("jobs.pushed", action=self._action, count=len(entries))
        return entries

    def _record(self, leadership: Leadership) -> None:
        """Record the pushed entries at the API."""
        entries = self._forget_unrecorded()
        written = self._api.pushed(entries) if entries else []
        for item, known in zip(entries, written, strict=True):
            if not known:
                # The job was cancelled or claimed in between; `remove` leaves claimed entries.
                self._queue.remove(leadership.node, item.entry)

    def _forget_unrecorded(self) -> list[EntryItem]:
        entries, self._unrecorded = self._unrecorded, []
        self._record_at = inf
        return entries

    def forget(self, entry: str) -> None:
        """Have the entry of a finished job removed from the queue at the next step."""
        self._cancelled.append(entry)

    def _remove_cancelled(self, leadership: Leadership) -> None:
        while self._cancelled:
            # A claimed entry stays: its claimer is answered `final`, and consumes it.
            self._queue.remove(leadership.node, self._cancelled.popleft())

    # --- reconcile ------------------------------------------------------------

    def _reconcile(self) -> None:
        """Clear recorded entries that are gone from the queue; record unrecorded ones.

        The store is read before the queue: an entry that is recorded was in the queue
        before, so if it is not there now, it is gone (and not still to come).
        """
        ensure_incarnation(self._session.client, self._api)
        recorded = list(self._api.recorded_entries(self._action))
        there = self._queue.entries()
        gone = [item for item in recorded if item.entry not in there]
        if self._adopts:
            gone += self._reused([item for item in recorded if item.entry in there])
        postponed = bool(gone) and self._is_alone()
        if postponed:
            log.warning("entries.elsewhere", action=self._action, entries=len(gone))
        else:
            self._clear(gone)
        if self._adopts:
            self._adopt(sorted(there - {item.entry for item in recorded}))
        self._description = next(
            (a for a in self._api.actions() if a.name == self._action), self._description
        )
        settings = self._settings
        if not postponed:
            self._adopts = False
            self._requeue_abandoned()
        patience_s = settings.poll_s if postponed else settings.reconcile_s
        self._reconcile_at = time.monotonic() + patience_s

    def _is_alone(self) -> bool:
        """Return whether no executor that could run the cleared jobs is known here.

        A leader that was given another ZooKeeper than the executors, or another chroot, finds
        none of their entries. It must not take their jobs from them.
        """
        return self._fleet.empty and self._action not in self._fleet.actions

    def _clear(self, gone: Sequence[EntryItem]) -> None:
        """Have jobs queued again whose entries are gone."""
        for start in range(0, len(gone), BATCH):
            # None is cleared of jobs that ended between the two readings.
            if cleared := sum(self._api.cleared(gone[start : start + BATCH])):
                log.warning("entries.gone", action=self._action, cleared=cleared)

    def _requeue_abandoned(self) -> None:
        """Queue jobs again whose foreign consumer has disappeared (decision 10).

        It has disappeared if the job has not changed for its action's timeout, and no entry
        of the job is claimed. While the entry is in the queue, the executor that claims it
        resumes the job. The entry may have been consumed, or was never recorded.
        """
        if self._description is None:
            return
        silent = self._api.foreign_runs(self._action, self._description.timeout_s)
        if not silent:
            return
        claimed = self._queue.claimed()
        there = self._queue.jobs([run.entry for run in silent if run.entry is not None])
        gone = [
            run
            for run in silent
            if run.job not in claimed and (run.entry is None or there.get(run.entry) != run.job)
        ]
        if gone:
            requeued = sum(self._api.requeue(gone))
            log.warning("jobs.abandoned", action=self._action, requeued=requeued)

    def _reused(self, recorded: list[EntryItem]) -> list[EntryItem]:
        """Return recorded entries that carry another job now: a wiped ZooKeeper counts from 0."""
        reused: list[EntryItem] = []
        for start in range(0, len(recorded), BATCH):
            batch = recorded[start : start + BATCH]
            jobs = self._queue.jobs([item.entry for item in batch])
            reused += [item for item in batch if jobs.get(item.entry, item.job) != item.job]
        return reused

    def _adopt(self, unrecorded: list[str]) -> None:
        """Record entries that an earlier leader pushed and did not record."""
        for start in range(0, len(unrecorded), BATCH):
            jobs = self._queue.jobs(unrecorded[start : start + BATCH])
            if jobs:
                self._api.pushed([EntryItem(job=j, entry=e) for e, j in jobs.items()])

    # --- schedule -------------------------------------------------------------

    def _schedule(self) -> None:
        if self._description is None:
            return
        tick_ms = newest_tick_ms(self._description, int(time.time() * 1000))
        if tick_ms is None or tick_ms == self._ticked_ms:
            return
        reply = self._api.schedule(self._action, tick_ms)
        self._ticked_ms = tick_ms
        if reply.job is not None:
            log.info("job.scheduled", action=self._action, job=reply.job, tick_ms=tick_ms)
