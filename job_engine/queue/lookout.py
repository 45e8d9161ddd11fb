"""The lookout: decides when an executor lists the queue next, and whom it wakes.

Only executors at the head of the line watch `entries` and `taken`, by the reads that a
listing makes anyway. A new entry is listed at once. A change of `taken` is nearly always a
claim or its end, so it waits for the next listing, or half a second. It must not be ignored:
nothing else reports that a claim was released, or ended with its session.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection
from math import inf
from typing import Final

from kazoo.protocol.states import WatchedEvent

from job_engine.queue.line import Line
from job_engine.queue.session import ZooKeeperSession

RELEASED_S: Final = 0.5
"""Seconds after which an entry whose claim was released is seen, at the latest."""

LOST_RACE_S: Final = 0.05
"""Seconds to wait after a lost race, unless something happens before."""

HEAD_POLL_S: Final = 30.0
"""Seconds between two listings at the head without any event: a safety net."""

LINE_POLL_S: Final = 300.0
"""The same behind the head, in case a head hangs without losing its session."""

Watch = Callable[[WatchedEvent], None]


class Lookout:
    """For the claimer's thread, apart from `wake` and ZooKeeper's callbacks."""

    def __init__(self, session: ZooKeeperSession, line_path: str) -> None:
        self._session = session
        self._news = threading.Condition()
        self._look_at = 0.0
        self._line = Line(session, line_path, self._moved)
        self._looked_from: str | None = None
        """This executor's node in the line when the last listing set its watches."""
        self._passed_on: set[str] = set()
        """Skipped entries for which this executor has left the line once already."""
        session.on_lost(self.wake)

    # --- listing --------------------------------------------------------------

    def look(self) -> tuple[Watch, Watch] | tuple[None, None]:
        """Begin a listing; return the watches for reading `entries` and `taken`, if any."""
        with self._news:
            self._look_at = inf
        self._looked_from = self._line.head
        return (self._on_entries, self._on_taken) if self._looked_from else (None, None)

    def found(self, names: Collection[str], skipped: Collection[str], surplus: bool) -> None:
        """Note the result of a listing, before anything is claimed.

        An executor that leaves entries behind wakes the next in line: each time for a
        `surplus`, but only once for an entry that it skips, so that a line of executors that
        all skip an entry comes to rest.

        Args:
            names: all entries.
            skipped: unclaimed entries that this executor skips.
            surplus: whether there are more entries than it can claim.
        """
        self._passed_on.intersection_update(names)
        anew = bool(self._line.head) and not self._passed_on.issuperset(skipped)
        if anew:
            self._passed_on.update(skipped)
        if anew or surplus:
            self._line.leave()

    def claimed(self, wanted: int, got: int, limit: int) -> None:
        """Note that `got` of `wanted` entries were claimed; `wanted` is at least 1."""
        if got >= limit:
            self._line.leave()
        elif got:
            self._line.took_work()
        if got < min(wanted, limit):
            # Another executor was faster, and may have left something.
            self._look_by(time.monotonic() + LOST_RACE_S)

    # --- waiting --------------------------------------------------------------

    def wait(self, timeout_s: float) -> None:
        """Stand in line until the next listing is due. Raises `SessionLostError`, `QueueError`."""
        deadline = time.monotonic() + timeout_s
        poll, started = random.uniform(0.8, 1.2), time.monotonic()
        while time.monotonic() < min(self._look_at, deadline):
            self._line.stand(self._session.id)
            if self._line.head not in (None, self._looked_from):
                return  # list once more for what came before the watches
            net_at = started + poll * (HEAD_POLL_S if self._line.head else LINE_POLL_S)
            self._sleep(min(deadline, net_at))
            if time.monotonic() >= net_at:
                self._line.check()
                return

    def _sleep(self, until: float) -> None:
        """Wait until an executor ahead has left, a listing is due, or `until` (monotonic s)."""
        with self._news:
            while not self._line.outdated:
                left_s = min(self._look_at, until) - time.monotonic()
                if left_s <= 0:
                    return
                self._news.wait(left_s)

    def stand_aside(self) -> None:
        """Leave the line: this executor will not list the queue for a while."""
        self._line.leave()

    def wake(self) -> None:
        """Have the queue listed at once; for any thread."""
        self._look_by(time.monotonic())

    def _look_by(self, at: float) -> None:
        with self._news:
            self._look_at = min(self._look_at, at)
            self._news.notify_all()

    def _moved(self) -> None:
        with self._news:
            self._news.notify_all()

    def _on_entries(self, _event: WatchedEvent) -> None:
        # Watches set from an earlier place in the line do not count any more.
        if self._line.head:
            self.wake()

    def _on_taken(self, _event: WatchedEvent) -> None:
        if self._line.head:
            # At different times, or the heads would race for it.
            self._look_by(time.monotonic() + random.uniform(0.5, 1.0) * RELEASED_S)
