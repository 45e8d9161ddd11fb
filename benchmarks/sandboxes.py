"""The sandboxes of this machine, and one submission of four phases whose programs do nothing.

The phases are those of an assignment that has them all: clone, build, test and report, with
the permissions, limits and trees that the engine gives them, egress proxies included. Only
their commands are `true`. A submission is a slot, a go with the workspace and the tests,
every phase's result, the hand-over of the results, and the destruction.
"""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.peers.bare_sandbox import BareBubblewrap, BareDocker, BareSandbox
from job_engine.cli.up.setup import local_base_image
from job_engine.errors import SandboxError
from job_engine.grading.assignment import Assignment
from job_engine.grading.flavours import flavours
from job_engine.grading.plan import TESTS, Plan, ReportAccess, make_plan
from job_engine.grading.submission import GitSource
from job_engine.sandbox.base import WORKSPACE, Inputs, PhaseResult
from job_engine.sandbox.factory import make_sandbox
from job_engine.sandbox.warm import WarmSlots
from job_engine.settings import GradingSettings, SandboxSettings

BACKENDS: Final = ("docker", "bubblewrap")
LABEL: Final = "benchmark"
AT_ONCE: Final = 4
"""Threads of the executor that is imitated: its default."""
COMMAND: Final = ("true",)

_ASSIGNMENT: Final = {
    "name": "nothing",
    "phases": {name: {"command": list(COMMAND)} for name in ("build", "test", "report")},
    "results": {"format": "stdout"},
}


@dataclass(frozen=True)
class Backend:
    """One backend, with the bare runtime that it is compared with."""

    name: str
    settings: SandboxSettings
    plan: Plan
    bare: BareSandbox

    @contextmanager
    def pool(self, warm_slots: int) -> Iterator[WarmSlots]:
        """Yield the slots of an executor; none is left afterwards."""
        sandbox = make_sandbox(self.settings)
        slots = WarmSlots(sandbox, slots=warm_slots, memory_bytes=2**30, at_once=AT_ONCE)
        with closing(slots):
            slots.start()
            yield slots

    def grade(self, slots: WarmSlots) -> float:
        """Run one submission to its verdict; returns milliseconds.

        Raises `SandboxError` unless every phase ended well.
        """
        inputs = Inputs(
            trees={WORKSPACE: _files("solution.py"), TESTS: _files("test_solution.py")},
            env=self.plan.env,
        )
        began = time.monotonic()
        slot = slots.prepare(
            label=LABEL, phases=self.plan.phases, trees=self.plan.trees, image=self.plan.image
        )
        try:
            slot.go(inputs)
            results = [event for event in slot.collect() if isinstance(event, PhaseResult)]
            took = time.monotonic() - began
        finally:
            slot.destroy()
        if not all(result.ok for result in results) or len(results) != len(self.plan.phases):
            raise SandboxError(f"{self.name}: {results}")
        return took * 1000


def backends() -> tuple[list[Backend], list[str]]:
    """Return what can be measured here, and what cannot, with the reason."""
    found, missing = [], []
    for name in BACKENDS:
        settings = _settings(name)
        try:
            with closing(make_sandbox(settings)) as sandbox:
                sandbox.check()
        except SandboxError as error:
            missing.append(f"{name}: {error.message}")
            continue
        plan = _plan()
        bare: BareSandbox = (
            BareDocker(settings, plan.phases) if name == "docker" else BareBubblewrap(COMMAND)
        )
        found.append(Backend(name, settings, plan, bare))
    return found, missing


def rate(each: Callable[[], object], count: int, threads: int) -> float:
    """Return how often a second something is done, by so many threads that never rest."""
    began = time.monotonic()
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(each) for _ in range(count)]:
            done.result()
    return count / (time.monotonic() - began)


def _settings(name: str) -> SandboxSettings:
    if name == "docker":
        return SandboxSettings(sandbox="docker", default_image=local_base_image())
    return SandboxSettings(sandbox="bubblewrap")


def _plan() -> Plan:
    known = flavours({})
    assignment = Assignment.model_validate(_ASSIGNMENT)
    source = GitSource(url="https://git.example/repository")
    access = ReportAccess("https://engine.example", "job/1", lambda: "")
    plan = make_plan(assignment, source, known, GradingSettings(), access)
    return replace(plan, phases=tuple(replace(p, command=COMMAND) for p in plan.phases))


def _files(name: str) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = 1000
        archive.addfile(member, io.BytesIO(bytes(1000)))
    stream.seek(0)
    return stream
