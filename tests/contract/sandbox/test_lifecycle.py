"""Slots end when told to, and leave nothing, however their process ends."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import replace

import psutil
import pytest

from job_engine.errors import SandboxError
from job_engine.sandbox.base import Inputs, PhaseResult, PhaseStarted, Slot, Verdict
from tests.contract.sandbox.conftest import Backend
from tests.contract.sandbox.runner import (
    LIMITS,
    TREE,
    assert_grades_normally,
    phase,
    python,
    results,
    sh,
)

FORK_BOMB = python(
    "import os\nprint(1, flush=True)\nwhile True:\n  try: os.fork()\n  except OSError: pass",
    limits=replace(LIMITS, cpu_time_s=100, wall_time_s=100, memory_bytes=2**29),
)
SLEEPER = sh("sleep 1000", limits=replace(LIMITS, wall_time_s=100))


def start(backend: Backend, label: str, *phases: object) -> Slot:
    """Return a slot whose first phase has started."""
    slot = backend.sandbox.prepare(label=label, phases=phases, trees=(TREE,))  # type: ignore[arg-type]
    slot.go(Inputs())
    return slot


@pytest.mark.parametrize("spec", [SLEEPER, FORK_BOMB], ids=["sleeper", "fork-bomb"])
def test_kill_from_another_thread(backend: Backend, label: str, spec: object) -> None:
    slot = start(backend, label, spec, phase("next", "true", always=True))
    try:
        events = slot.collect()
        assert isinstance(next(events), PhaseStarted)
        killed_at = time.monotonic()
        threading.Thread(target=slot.kill).start()
        rest = list(events)
        assert time.monotonic() - killed_at < 1
        [result] = rest
        assert isinstance(result, PhaseResult)
        assert result.verdict is Verdict.KILLED
        slot.kill()
    finally:
        slot.destroy()
    assert_grades_normally(backend.sandbox, label)


def test_kill_before_go(backend: Backend, label: str) -> None:
    slot = backend.sandbox.prepare(label=label, phases=(SLEEPER,), trees=(TREE,))
    slot.kill()
    try:
        with pytest.raises(SandboxError):
            slot.go(Inputs())
    finally:
        slot.destroy()


def test_destroy_leaves_nothing_at_any_time(backend: Backend, label: str) -> None:
    prepared = backend.sandbox.prepare(label=label, phases=(SLEEPER,), trees=(TREE,))
    running = start(backend, label, SLEEPER)
    assert isinstance(next(running.collect()), PhaseStarted)
    done = start(backend, label, sh("true"))
    assert results(done)[0].ok
    assert backend.leftovers(label) != []
    for slot in (prepared, running, done):
        slot.destroy()
        slot.destroy()
        slot.kill()
    assert backend.leftovers(label) == []


def test_destroy_ends_a_collect_in_another_thread(backend: Backend, label: str) -> None:
    slot = start(backend, label, SLEEPER)
    events = slot.collect()
    assert isinstance(next(events), PhaseStarted)
    ended: list[object] = []

    def drain() -> None:
        try:
            ended.extend(events)
        except SandboxError as error:
            ended.append(error)

    thread = threading.Thread(target=drain)
    thread.start()
    slot.destroy()
    thread.join(10)
    assert not thread.is_alive()
    assert len(ended) == 1


def test_slots_side_by_side(backend: Backend, label: str) -> None:
    slots = [start(backend, label, sh(f"sleep 0.2; echo {n}")) for n in range(6)]
    try:
        assert [results(slot)[0].stdout for slot in slots] == [b"%d\n" % n for n in range(6)]
    finally:
        for slot in slots:
            slot.destroy()


def test_sweep_leaves_the_living_alone(backend: Backend, label: str) -> None:
    slot = start(backend, label, sh("sleep 0.5; echo alive"))
    try:
        assert backend.sandbox.sweep(label) == 0
        assert results(slot)[0].stdout == b"alive\n"
    finally:
        slot.destroy()
    assert backend.sandbox.sweep(label) == 0


HOLD = """
import json, sys, time
from job_engine.sandbox.base import Inputs, PhaseStarted
from job_engine.sandbox.factory import make_sandbox
from job_engine.settings import SandboxSettings
from tests.contract.sandbox.test_lifecycle import SLEEPER, FORK_BOMB
from tests.contract.sandbox.runner import TREE

sandbox = make_sandbox(SandboxSettings.model_validate(json.loads(sys.argv[1])))
slots = []
for spec in (SLEEPER, FORK_BOMB):
    slot = sandbox.prepare(label=sys.argv[2], phases=(spec,), trees=(TREE,))
    slot.go(Inputs())
    assert isinstance(next(slot.collect()), PhaseStarted)
    slots.append(slot)
slots.append(sandbox.prepare(label=sys.argv[2], phases=(SLEEPER,), trees=(TREE,)))
print("running", flush=True)
time.sleep(1000)
"""


def test_sweep_after_a_killed_process(backend: Backend, label: str) -> None:
    settings = json.dumps(backend.settings.model_dump(mode="json"))
    command = [sys.executable, "-c", HOLD, settings, label]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "running\n"
        helpers = psutil.Process(holder.pid).children(recursive=True)
        assert backend.leftovers(label) != []
        holder.kill()
    assert backend.sandbox.sweep(label) > 0
    assert backend.leftovers(label) == []
    _, alive = psutil.wait_procs(helpers, timeout=5)
    assert alive == []
    assert_grades_normally(backend.sandbox, label)
    assert backend.sandbox.sweep(label) == 0


def test_close_destroys_every_slot(backend: Backend, label: str) -> None:
    sandbox = backend.make()
    slot = sandbox.prepare(label=label, phases=(SLEEPER,), trees=(TREE,))
    slot.go(Inputs())
    sandbox.close()
    sandbox.close()
    assert backend.leftovers(label) == []
    with pytest.raises(SandboxError):
        sandbox.prepare(label=label, phases=(SLEEPER,), trees=(TREE,))
