"""One run: start everything, submit and inject, wait for calm, and collect the evidence."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import requests
from kazoo.client import KazooClient

from tests.faults.bed import leftovers
from tests.faults.bed.boxes import Boxes
from tests.faults.bed.docker import DockerDaemon, has_docker
from tests.faults.bed.driver import Driver
from tests.faults.bed.ensemble import Ensemble
from tests.faults.bed.evidence import Document, Evidence
from tests.faults.bed.journal import Journal
from tests.faults.bed.kinds import KINDS
from tests.faults.bed.load import BURST, Client, Observer, Submitter
from tests.faults.bed.progress import Progress
from tests.faults.bed.proxy import Proxies
from tests.faults.bed.world import THREADS, World
from tests.support.trace import read_trace

CALM_SHARE: Final = 0.1
"""Of all jobs, before the first fault and again after the last: there the order counts."""
BEHIND_SHARE: Final = 0.05
"""Of all jobs, how many the submitter may be behind before faults wait for it."""
STUCK_S: Final = 90.0
"""Seconds without any job becoming final, after which the rest never will."""
SUBMIT_S: Final = 0.1
"""Seconds that a job may take to be accepted, on average, while nothing is broken."""


@dataclass(frozen=True)
class Plan:
    """What to run."""

    seed: int
    jobs: int
    faults: int
    gap_s: float
    """Mean seconds between two injections."""
    kinds: tuple[str, ...] = tuple(KINDS)
    """Those that faults are drawn from."""


def run(plan: Plan, directory: Path, say: Callable[[str], None]) -> Evidence:
    """Run it; everything is stopped when this returns."""
    trace = directory / "trace"
    trace.touch()
    journal = Journal(directory / "journal")
    ensemble = Ensemble(directory)
    try:
        with (
            Proxies() as proxies,
            Boxes(directory, trace) as boxes,
            _docker(directory, boxes) as docker,
            World(directory, ensemble, proxies, boxes, docker, journal) as world,
        ):
            world.start_all()
            say("everything is up")
            return _Run(plan, world, trace, say).go()
    finally:
        ensemble.stop()


def _docker(directory: Path, boxes: Boxes) -> AbstractContextManager[DockerDaemon | None]:
    return DockerDaemon(directory, boxes) if has_docker() else nullcontext()


class _Run:
    def __init__(self, plan: Plan, world: World, trace: Path, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._world = world
        self._trace = trace
        self._say = say
        client = f"http://{world.api_links['client'].hosts}"
        self._submitter = Submitter(client, trace, plan.seed, plan.jobs)
        self._observer = Observer(world.url, plan.seed, lambda: self._submitter.submissions)
        self._reader = Client(world.url)
        self._injected = 0
        self._progress = Progress(
            world.url, self._submitter, plan.jobs, plan.faults, lambda: self._injected, say
        )

    def go(self) -> Evidence:
        self._submitter.start()
        self._observer.start()
        self._progress.start()
        plan = self._plan
        patience_s = 60 + SUBMIT_S * plan.jobs
        self._submitter.submit(round(plan.jobs * CALM_SHARE), patience_s)
        self._wait_unfinished(THREADS)
        self._say("now the faults")
        Driver(
            self._world,
            plan.seed,
            plan.faults,
            plan.gap_s,
            plan.kinds,
            # Faults without anybody who wants something would prove little.
            ready=lambda: self._submitter.behind <= BEHIND_SHARE * plan.jobs,
            on_fault=self._on_fault,
            on_idle=self._on_idle,
        ).run()
        self._say("all faults are undone")
        self._wait_all_final()
        self._submitter.finish(patience_s)
        self._wait_all_final()
        self._say("all jobs are final")
        self._observer.stop()
        self._progress.stop()
        return self._collect()

    def _on_fault(self, count: int) -> None:
        share = CALM_SHARE + (1 - 2 * CALM_SHARE) * count / self._plan.faults
        self._submitter.allow(round(self._plan.jobs * share))
        self._injected = count

    def _on_idle(self) -> None:
        # Some faults take jobs that run: a few more, unless there are enough.
        if self._submitter.waits:
            self._submitter.allow(self._submitter.accepted + BURST)

    def _wait_all_final(self) -> None:
        self._wait_unfinished(0)

    def _wait_unfinished(self, most: int) -> None:
        """Wait until no more than this many jobs are left; gives up when nothing moves."""
        left: int | None = None
        deadline = time.monotonic() + STUCK_S
        while left is None or left > most:
            self._world.revive()
            time.sleep(0.3)
            try:
                now = self._reader.unfinished()
            except requests.RequestException:
                continue
            if now != left:
                left, deadline = now, time.monotonic() + STUCK_S
            if time.monotonic() > deadline:
                self._say(f"{left} jobs never become final")
                return

    def _collect(self) -> Evidence:
        world = self._world
        zookeeper = KazooClient(world.ensemble.hosts)
        zookeeper.start(30)
        found = leftovers.wait_empty(zookeeper)
        found += leftovers.in_elections(zookeeper, len(world.distributors))
        for name in world.executors:
            found += leftovers.in_scratch(world.scratch(name))
        first = self._documents()
        time.sleep(2.0)
        second = self._documents()
        self._reader.close()
        codes = world.stop_all()
        found += leftovers.in_zookeeper(zookeeper)
        zookeeper.stop()
        zookeeper.close()
        found += leftovers.of_sandboxes(world.executors)
        if world.docker is not None:
            found += world.docker.left()
        return Evidence(
            submissions=self._submitter.submissions,
            executions=read_trace(self._trace),
            first=first,
            second=second,
            observations=self._observer.observations,
            faults=world.journal.faults,
            restores=world.journal.restores,
            starts=world.journal.starts,
            deaths=world.journal.deaths,
            leftovers=found,
            exits=codes,
            in_docker=world.in_docker,
            threads=THREADS * len(world.executors),
        )

    def _documents(self) -> dict[str, Document]:
        return {d.job: d for d in self._reader.documents()}
