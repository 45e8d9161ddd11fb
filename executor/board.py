"""The board: the runs in progress and the claims held by this executor."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable

from executor.run import Run
from job_engine.errors import Interruption
from job_engine.queue import QueueClaim, Registration


class Board:
    """Thread-safe registry of runs and claims, shared by all threads of the executor.

    A run is listed from its dispatch until its action has ended, also while it waits for a
    thread; its outcome may be reported later. A claim is listed from its creation until its
    node in ZooKeeper is deleted. No method holds the lock while it waits for I/O.
    """

    def __init__(self, threads: int) -> None:
        """`threads` is how many actions run at once."""
        self.threads = threads
        self._changed = threading.Condition()
        # By identity: after a lost session the next run of the same entry may begin here
        # before the thread of the last one has ended.
        self._runs: dict[int, Run] = {}
        self._of_actions: Counter[str] = Counter()
        self._held: dict[str, QueueClaim] = {}

    # --- runs -----------------------------------------------------------------

    def add(self, run: Run) -> None:
        """List a run that has a thread or waits for one."""
        with self._changed:
            self._runs[id(run)] = run
            self._of_actions[run.action.name] += 1

    def remove(self, run: Run) -> None:
        """Remove a run whose action has ended; its thread is free again."""
        with self._changed:
            if self._runs.pop(id(run), None) is not None:
                self._of_actions[run.action.name] -= 1
            self._changed.notify_all()

    def runs(self) -> list[Run]:
        """Return the runs that have a thread or wait for one."""
        with self._changed:
            return list(self._runs.values())

    def count(self, actions: Collection[str]) -> tuple[int, int]:
        """Return the number of runs, and how many of them are of these actions."""
        with self._changed:
            return len(self._runs), sum(self._of_actions[name] for name in actions)

    def of_job(self, job_id: str) -> list[Run]:
        """Return the runs of a job; one that was interrupted may be among them."""
        return [run for run in self.runs() if run.job.id == job_id]

    def wait_room(self, ahead: int, least: int, timeout_s: float) -> int:
        """Wait until `least` more runs would fit, or `timeout_s` has passed.

        There is room for one run a thread, and for `ahead` more that wait for a thread.
        Returns how many more runs fit now.
        """

        def room() -> int:
            return self.threads + ahead - len(self._runs)

        with self._changed:
            self._changed.wait_for(lambda: room() >= least, timeout_s)
            return room()

    def interrupt_all(self, order: Callable[[], Interruption]) -> None:
        """Interrupt every run, each with an interruption of its own from `order`."""
        for run in self.runs():
            run.interrupt(order())

    # --- claims ---------------------------------------------------------------

    def hold(self, claims: Iterable[QueueClaim]) -> None:
        """List claims whose nodes this session has created."""
        with self._changed:
            self._held.update((claim.entry, claim) for claim in claims)

    def let_go(self, claims: Iterable[QueueClaim]) -> None:
        """Remove claims whose nodes are deleted, or ended with their session."""
        with self._changed:
            for claim in claims:
                if self._held.get(claim.entry) == claim:
                    del self._held[claim.entry]
            self._changed.notify_all()

    def held(self, registration: Registration) -> list[QueueClaim]:
        """Return the claims of this registration's session, and forget those of earlier ones.

        Claims belong to the session, not to the registration: a new registration in the
        same session, for instance after a new incarnation, leaves them valid.
        """
        with self._changed:
            self._held = {
                entry: claim
                for entry, claim in self._held.items()
                if claim.registration.session_id == registration.session_id
            }
            return list(self._held.values())

    def wait_empty(self, timeout_s: float) -> bool:
        """Wait until there is neither run nor claim; return false on timeout."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._runs and not self._held, timeout_s)

    def empty(self) -> bool:
        """Return whether there is neither run nor claim."""
        with self._changed:
            return not self._runs and not self._held

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until there is no run; return false on timeout."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._runs, timeout_s)
