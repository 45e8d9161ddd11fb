"""The distributor service: its parts, and the order in which they start and stop."""

from __future__ import annotations

import threading
from typing import Final

from distributor.candidate import Candidate
from distributor.fleet import Fleet
from distributor.leader import ActionLeader
from distributor.orphans import ELECTION, OrphanDuty
from job_engine.client import Api, change_stream
from job_engine.log import get_logger
from job_engine.model.protocol.events import Changes
from job_engine.queue import ZooKeeperPushQueue, open_session
from job_engine.settings import DistributorSettings

log = get_logger(__name__)

STOP_S: Final = 3.0
"""Seconds that ending the ZooKeeper session may take."""


class Distributor:
    """A distributor process: `start` it, `wait` until it is asked to stop, `stop` it."""

    def __init__(self, settings: DistributorSettings) -> None:
        self._settings = settings
        self._stopping = threading.Event()
        self._api = Api.from_settings(settings)
        self._session = open_session(settings)
        self._session.on_lost(self._wake_all)
        self._queue = ZooKeeperPushQueue(self._session, settings.queue_root, settings.name)
        self._fleet = Fleet(self._session, self._on_fleet, settings.foreign_actions)
        self._changes = change_stream(self._api, self._on_changes, self._wake_all)
        self._lock = threading.Lock()
        self._leaders: dict[str, tuple[Candidate, ActionLeader]] = {}
        self._orphans = Candidate(
            self._session,
            ELECTION,
            settings.name,
            OrphanDuty(self._api, self._session, self._fleet, settings.orphan_grace_s),
        )

    def start(self) -> None:
        """Connect, and stand in the election of every action that the settings name."""
        self._session.start()
        self._orphans.start()
        for action in (*self._settings.actions, *self._settings.foreign_actions):
            self._stand_for(action)
        self._fleet.start()
        self._changes.start()
        log.info("distributor.started", name=self._settings.name)

    def wait(self) -> None:
        """Wait until a stop is asked for."""
        self._stopping.wait()

    def ask_to_stop(self) -> None:
        """Ask for a stop; for any thread."""
        self._stopping.set()

    def stop(self) -> None:
        """Resign everywhere and end the session."""
        self._stopping.set()
        candidates = [self._orphans, *self._candidates()]
        self._api.close()
        for candidate in candidates:
            candidate.ask_to_stop()
        self._fleet.stop()
        self._changes.stop()
        # Ending the session also ends every wait for one of its answers.
        self._session.stop(STOP_S)
        for candidate in candidates:
            candidate.join(0.5)
        log.info("distributor.stopped", name=self._settings.name)

    # --- what the parts call --------------------------------------------------

    def _on_fleet(self) -> None:
        if not self._settings.actions:
            for action in self._fleet.actions:
                self._stand_for(action)
        self._wake_all()

    def _stand_for(self, action: str) -> None:
        with self._lock:
            if action in self._leaders or self._stopping.is_set():
                return
            duty = ActionLeader(
                action,
                api=self._api,
                queue=self._queue,
                session=self._session,
                fleet=self._fleet,
                settings=self._settings,
            )
            candidate = Candidate(self._session, action, self._settings.name, duty)
            self._leaders[action] = (candidate, duty)
        candidate.start()

    def _candidates(self) -> list[Candidate]:
        with self._lock:
            return [candidate for candidate, _ in self._leaders.values()]

    def _wake_all(self) -> None:
        for candidate in self._candidates():
            candidate.wake()

    def _on_changes(self, changes: Changes) -> None:
        with self._lock:
            leaders = dict(self._leaders)
        concerned = set(changes.waiting)
        for action in concerned & leaders.keys():
            leaders[action][1].offer([item for item in changes.new if item.action == action])
        for cancelled in changes.cancelled:
            if cancelled.action in leaders:
                leaders[cancelled.action][1].forget(cancelled.entry)
                concerned.add(cancelled.action)
        # Room in the window matters only to leaders with a backlog.
        concerned |= {a for a in changes.moving if a in leaders and leaders[a][1].backlogged}
        for action in concerned & leaders.keys():
            leaders[action][0].wake()
