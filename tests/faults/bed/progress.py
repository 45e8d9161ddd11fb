"""Says now and then how far a run is, and how long it will take."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import requests

from tests.faults.bed.load import TIMEOUT_S, Client, Submitter

TELL_S: Final = 30.0


class Progress:
    """A thread that tells of a run's faults and jobs every half minute.

    Args:
        url: of the API, which may be down just then.
        jobs: how many will be accepted.
        faults: how many will be injected.
        injected: how many were, so far.
    """

    def __init__(
        self,
        url: str,
        submitter: Submitter,
        jobs: int,
        faults: int,
        injected: Callable[[], int],
        say: Callable[[str], None],
    ) -> None:
        self._client = Client(url)
        self._submitter = submitter
        self._jobs = jobs
        self._faults = faults
        self._injected = injected
        self._say = say
        self._began_at = time.monotonic()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def start(self) -> None:
        """Start telling."""
        self._thread.start()

    def stop(self) -> None:
        """Tell no more."""
        self._stopping.set()
        self._thread.join(3 * TIMEOUT_S)
        self._client.close()

    def _run(self) -> None:
        while not self._stopping.wait(TELL_S):
            try:
                unfinished = self._client.unfinished()
            except requests.RequestException:
                continue  # what it was asked through has just been hurt
            self._tell(max(0, self._submitter.accepted - unfinished))

    def _tell(self, final: int) -> None:
        elapsed_s = time.monotonic() - self._began_at
        injected = self._injected()
        left = max(
            remaining_s(final, self._jobs, elapsed_s),
            remaining_s(injected, self._faults, elapsed_s),
        )
        self._say(
            f"{injected} of {self._faults} faults; {self._submitter.accepted} of {self._jobs} "
            f"jobs accepted, {final} final; about {left / 60:.0f} min left"
        )


def remaining_s(done: int, wanted: int, elapsed_s: float) -> float:
    """Return how long the rest takes at the pace so far; 0 before there is any."""
    return elapsed_s * (wanted - done) / done if done else 0.0
