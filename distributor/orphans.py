"""Failing jobs that cannot run: no executor has their action, or they have expired."""

from __future__ import annotations

import time
from typing import Final

from distributor.candidate import Duty, Leadership
from distributor.fleet import Fleet
from distributor.incarnation import ensure_incarnation
from job_engine.client import Api
from job_engine.log import get_logger
from job_engine.queue import ZooKeeperSession

log = get_logger(__name__)

ELECTION: Final = "_orphans"
"""Name of the election; no action's name begins with an underscore."""


class OrphanDuty(Duty):
    """Fails expired jobs, and jobs whose action no live executor has had for `grace_s`.

    The grace period only counts while some executor is alive: otherwise all of them may be
    restarting (decision 1).
    """

    def __init__(self, api: Api, session: ZooKeeperSession, fleet: Fleet, grace_s: float) -> None:
        self._api = api
        self._session = session
        self._fleet = fleet
        self._grace_s = grace_s
        self._watching_since = time.monotonic()
        self._seen_at: dict[str, float] = {}

    def take_over(self, leadership: Leadership) -> None:
        """Ensure that there is an incarnation, and start the grace period anew."""
        ensure_incarnation(self._session.client, self._api)
        self._watching_since = time.monotonic()

    def step(self, leadership: Leadership) -> float:
        """Fail expired jobs, and those that nobody can run; see `Duty.step`."""
        if expired := self._api.sweep().expired:
            log.info("jobs.expired", failed=expired)
        now = time.monotonic()
        if self._fleet.empty:
            self._watching_since = now
        self._seen_at.update((action, now) for action in self._fleet.actions)
        if now - self._watching_since >= self._grace_s:
            live = [a for a, at in self._seen_at.items() if now - at < self._grace_s or at == now]
            if failed := self._api.fail_orphans(live, self._grace_s):
                log.warning("jobs.orphaned", failed=failed)
        return max(0.1, min(5.0, self._grace_s / 4))
