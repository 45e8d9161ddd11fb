"""When an executor looks at the queue next: what wakes it, and whom it wakes.

Those at the head of the line watch `entries` and `taken`, with the very reads that a
look makes anyway, and nobody else watches either. A new entry is looked at on the spot.
A change of `taken` is nearly always somebody's claim or its end, and waits for the next
look, or half a second; but it is also all that tells of a claim that was released, by
whomever, or that ended with its session.
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
"""Longest time that an entry which was claimed and came back is left lying."""

LOST_RACE_S: Final = 0.05
"""Wait after a lost race, unless something happens before."""

HEAD_POLL_S: Final = 30.0
"""Time between two looks of who stands at the head and hears nothing: a safety net."""

LINE_POLL_S: Final = 300.0
"""The same of everybody else; what it is for is a head that hangs and keeps its session."""

Watch = Callable[[WatchedEvent], None]


class Lookout:
    """For the claimer's thread, but for `wake` and what ZooKeeper tells."""

    def __init__(self, session: ZooKeeperSession, line_path: str) -> None:
        self._session = session
        self._news = threading.Condition()
        self._look_at = 0.0
        self._line = Line(session, line_path, self._moved)
        self._looked_from: str | None = None
        """The place at the head from which the last look was, and set its watches."""
        self._passed_on: set[str] = set()
        """Entries that this left behind, and left the line for so that others see them."""
        session.on_lost(self.wake)

    # --- a look ---------------------------------------------------------------

    def look(self) -> tuple[Watch, Watch] | tuple[None, None]:
        """Begin a look; returns the watches to read `entries` and `taken` with, if any."""
        with self._news:
            self._look_at = inf
        self._looked_from = self._line.head
        return (self._on_entries, self._on_taken) if self._looked_from else (None, None)

    def found(self, names: Collection[str], skipped: Collection[str], surplus: bool) -> None:
        """Say what a look found, before anything is claimed.

        Who leaves work behind wakes the next in line: for a `surplus` each time, for
        what it skips once, so that a line of executors that all skip it comes to rest.

        Args:
            names: all entries.
            skipped: entries that nobody has claimed and that this leaves alone.
            surplus: whether there is more than this can claim.
        """
        self._passed_on.intersection_update(names)
        anew = bool(self._line.head) and not self._passed_on.issuperset(skipped)
        if anew:
            self._passed_on.update(skipped)
        if anew or surplus:
            self._line.leave()

    def claimed(self, wanted: int, got: int, limit: int) -> None:
        """Say what came of a look that found `wanted` entries to claim, at least one."""
        if got >= limit:
            self._line.leave()
        elif got:
            self._line.took_work()
        if got < min(wanted, limit):
            # Somebody was faster, and may have left something.
            self._look_by(time.monotonic() + LOST_RACE_S)

    # --- between two looks ----------------------------------------------------

    def wait(self, timeout_s: float) -> None:
        """Stand in line until it is time to look; raises `SessionLostError`, `QueueError`."""
        deadline = time.monotonic() + timeout_s
        poll, started = random.uniform(0.8, 1.2), time.monotonic()
        while time.monotonic() < min(self._look_at, deadline):
            self._line.stand(self._session.id)
            if self._line.head not in (None, self._looked_from):
                return  # what came before the watches is still to be seen
            net_at = started + poll * (HEAD_POLL_S if self._line.head else LINE_POLL_S)
            self._sleep(min(deadline, net_at))
            if time.monotonic() >= net_at:
                self._line.check()
                return

    def _sleep(self, until: float) -> None:
        """Return when somebody ahead has left, when it is time to look, or at `until`."""
        with self._news:
            while not self._line.outdated:
                left_s = min(self._look_at, until) - time.monotonic()
                if left_s <= 0:
                    return
                self._news.wait(left_s)

    def stand_aside(self) -> None:
        """Leave the line: this will not look at the queue for a while."""
        self._line.leave()

    def wake(self) -> None:
        """Look at once, from any thread."""
        self._look_by(time.monotonic())

    def _look_by(self, at: float) -> None:
        with self._news:
            self._look_at = min(self._look_at, at)
            self._news.notify_all()

    def _moved(self) -> None:
        with self._news:
            self._news.notify_all()

    def _on_entries(self, _event: WatchedEvent) -> None:
        # What was watched from a place given up is for those who stand there now.
        if self._line.head:
            self.wake()

    def _on_taken(self, _event: WatchedEvent) -> None:
        if self._line.head:
            # Not all at once: they would race one another for it.
            self._look_by(time.monotonic() + random.uniform(0.5, 1.0) * RELEASED_S)
