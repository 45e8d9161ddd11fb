"""What this executor does not claim for a while: entries given back, jobs that failed here."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from math import inf
from typing import Final

FIRST_S: Final = 1.0
"""Seconds for which an entry is skipped the first time; doubled each time after that."""
LONGEST_S: Final = 60.0
"""Longest time, in seconds, for which an entry is skipped."""

GONE_S: Final = 10.0
"""Seconds that a job must be missing before its entry is consumed: a foreign producer may
push an entry before it stores the job."""

PATIENCE_S: Final = 15.0
"""Seconds beyond its retry time for which a job that failed here is left to others."""


@dataclass
class _Skip:
    until: float
    delay_s: float
    since: float


class Skips:
    """Entries that were given back, each with an exponential back-off before the next claim.

    Without it they would be claimed again at once. For the claimer's thread alone. Entries
    that were not seen for long are forgotten.
    """

    def __init__(self) -> None:
        self._skips: dict[str, _Skip] = {}

    def __call__(self, entry: str) -> bool:
        """Return whether to skip this entry now."""
        skip = self._skips.get(entry)
        return skip is not None and time.monotonic() < skip.until

    def add(self, entry: str) -> None:
        """Skip the entry for twice as long as the last time."""
        now = time.monotonic()
        skip = self._skips.get(entry)
        if skip is None:
            self._forget_old(now)
            self._skips[entry] = _Skip(now + FIRST_S, FIRST_S, now)
        else:
            skip.delay_s = min(2 * skip.delay_s, LONGEST_S)
            skip.until = now + skip.delay_s

    def gone_for_good(self, entry: str) -> bool:
        """Note that the entry's job is missing; return whether it has been for `GONE_S`."""
        self.add(entry)
        return time.monotonic() - self._skips[entry].since >= GONE_S

    def next_s(self) -> float:
        """Seconds until the next entry may be tried again; infinity when there is none."""
        now = time.monotonic()
        return min((s.until - now for s in self._skips.values() if s.until > now), default=inf)

    def _forget_old(self, now: float) -> None:
        self._skips = {e: s for e, s in self._skips.items() if now < s.until + LONGEST_S}


class BrokenHere:
    """Jobs that a platform fault ended on this executor, until others had time to run them.

    The fault may be this machine's, and happen again. The reporter's thread adds jobs, the
    claimer's thread looks them up.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[str, tuple[str, float]] = {}

    def add(self, job_id: str, action: str, retry_after_s: float) -> None:
        """Note a job whose run failed, and is retried in `retry_after_s` seconds."""
        now = time.monotonic()
        with self._lock:
            self._jobs = {job: left for job, left in self._jobs.items() if now < left[1]}
            self._jobs[job_id] = (action, now + retry_after_s + PATIENCE_S)

    def action_of(self, job_id: str) -> str | None:
        """Return the action of a job that should run elsewhere; None for any other job."""
        with self._lock:
            action, until = self._jobs.get(job_id, (None, 0.0))
        return action if time.monotonic() < until else None
