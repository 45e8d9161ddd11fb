"""What this executor has in hand: the runs in its threads, and the claims it holds."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable

from executor.run import Run
from job_engine.errors import Interruption
from job_engine.queue import QueueClaim, Registration


class Board:
    """Shared by all threads of the executor; every method takes the lock for a moment.

    A run is here until its action has ended, even while the outcome is still on its
    way; some may wait for a thread. A claim is held from the moment it is made until its
    node is deleted.
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
        """This run has a thread, or is the next to get one."""
        with self._changed:
            self._runs[id(run)] = run
            self._of_actions[run.action.name] += 1

    def remove(self, run: Run) -> None:
        """It has ended, and its thread is free again."""
        with self._changed:
            if self._runs.pop(id(run), None) is not None:
                self._of_actions[run.action.name] -= 1
            self._changed.notify_all()

    def runs(self) -> list[Run]:
        """The runs that have a thread, or wait for one."""
        with self._changed:
            return list(self._runs.values())

    def count(self, actions: Collection[str]) -> tuple[int, int]:
        """How many runs there are, and how many of them are of these actions."""
        with self._changed:
            return len(self._runs), sum(self._of_actions[name] for name in actions)

    def of_job(self, job_id: str) -> list[Run]:
        """The runs of this job; an interrupted one may be among them."""
        return [run for run in self.runs() if run.job.id == job_id]

    def wait_room(self, ahead: int, least: int, timeout_s: float) -> int:
        """Wait until `least` runs have room, each with a thread or among the `ahead` that wait.

        Returns how many have room.
        """

        def room() -> int:
            return self.threads + ahead - len(self._runs)

        with self._changed:
            self._changed.wait_for(lambda: room() >= least, timeout_s)
            return room()

    def interrupt_all(self, order: Callable[[], Interruption]) -> None:
        """Interrupt every run."""
        for run in self.runs():
            run.interrupt(order())

    # --- claims ---------------------------------------------------------------

    def hold(self, claims: Iterable[QueueClaim]) -> None:
        """These claim nodes are ours."""
        with self._changed:
            self._held.update((claim.entry, claim) for claim in claims)

    def let_go(self, claims: Iterable[QueueClaim]) -> None:
        """These claim nodes are deleted, or went with their session."""
        with self._changed:
            for claim in claims:
                if self._held.get(claim.entry) == claim:
                    del self._held[claim.entry]
            self._changed.notify_all()

    def held(self, registration: Registration) -> list[QueueClaim]:
        """The claims of this registration's session; those of earlier ones are forgotten.

        The session decides, not the registration: an incarnation that was drawn anew
        under it leaves the claims made before as good as they were.
        """
        with self._changed:
            self._held = {
                entry: claim
                for entry, claim in self._held.items()
                if claim.registration.session_id == registration.session_id
            }
            return list(self._held.values())

    def wait_empty(self, timeout_s: float) -> bool:
        """Wait until no run and no claim is left; return whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._runs and not self._held, timeout_s)

    def empty(self) -> bool:
        """Whether no run and no claim is there."""
        with self._changed:
            return not self._runs and not self._held

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until no run is left; return whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._runs, timeout_s)
