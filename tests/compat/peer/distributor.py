"""The peer's distributor (docs/cimi.md §6.5): an election, and a loop that makes jobs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionClosedError, SessionExpiredError
from kazoo.recipe.election import Election
from nuvla.api import Api

Generate = Callable[[Api], Iterable[dict[str, Any]]]
"""Makes the documents of the jobs that are due."""


@dataclass
class Distribution:
    """One distribution: whoever leads it adds its jobs, every interval.

    The real one can be ended by no stop event (D33); this one can, or no test would end.
    """

    name: str
    api: Api
    zookeeper: KazooClient
    identifier: str
    generate: Generate
    interval_s: float = 0.2
    added: list[str] = field(default_factory=list)
    leads: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._election = Election(self.zookeeper, f"/election/{self.name}", self.identifier)
        self._thread = threading.Thread(target=self._elect, name=self.identifier, daemon=True)

    def start(self) -> None:
        """Stand for election."""
        self._thread.start()

    def stop(self) -> None:
        """Resign, and wait until that is done."""
        self._stop.set()
        self._election.cancel()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def contenders(self) -> list[str]:
        """Who stands, the leader first."""
        return list(self._election.contenders())

    def _elect(self) -> None:
        with suppress(ConnectionClosedError, SessionExpiredError):  # killed
            while not self._stop.is_set():
                self._election.run(self._loop)

    def _loop(self) -> None:
        self.leads.set()
        while not self._stop.is_set() and self.zookeeper.connected:
            for document in self.generate(self.api):
                self.added.append(self.api.add("job", document).data["resource-id"])
            self._stop.wait(self.interval_s)


def once_active(action: str) -> Generate:
    """Make the default job of a distribution, unless one is active."""

    def generate(api: Api) -> Iterable[dict[str, Any]]:
        document = {"action": action, "target-resource": {"href": "job"}}
        if not active(api, document):
            yield document

    return generate


def monitor_bulk_jobs(api: Api) -> Iterable[dict[str, Any]]:
    """Make a monitor for each bulk job that waits for its children."""
    monitored = api.search(
        "job",
        last=10000,
        select=["id"],
        filter='action^="bulk" and state="RUNNING"and tags="monitor"',
    )
    for bulk in monitored.resources:
        document = {"action": "monitor_bulk_job", "target-resource": {"href": bulk.id}}
        if not active(api, document):
            yield document


def active(api: Api, document: dict[str, Any]) -> bool:
    """Whether there is such a job already: checked, and only then acted upon (D32)."""
    filter_ = (
        "(state='QUEUED' or state='RUNNING')"
        f" and action='{document['action']}'"
        f" and target-resource/href='{document['target-resource']['href']}'"
    )
    return bool(api.search("job", filter=filter_, last=0).count > 0)
