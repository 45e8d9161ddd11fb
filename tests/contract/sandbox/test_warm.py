"""Slots that wait, on every backend: used once, whole, metered from the go, and gone after it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from job_engine.errors import SandboxRefusedError
from job_engine.sandbox.base import Inputs, PhaseResult, PhaseSpec, Verdict
from job_engine.sandbox.warm import WarmSlots
from tests.contract.sandbox.conftest import Backend
from tests.contract.sandbox.runner import LIMITS, TREE, phase, python, results, run, run_all, sh
from tests.support.images import docker

WAIT_S = 20.0

LOOK = sh("ls -A . /tmp; echo $MINE; cat; echo mark > kept; echo mark > /tmp/kept")
"""Says what is there of others, and leaves something itself."""


@pytest.fixture
def pool(backend: Backend, label: str) -> Iterator[WarmSlots]:
    """A pool over a backend of its own."""
    with closing(WarmSlots(backend.make(), slots=2, memory_bytes=2**30, at_once=2)) as pool:
        pool.start()
        yield pool


def wait_for(what: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < until
        time.sleep(0.01)


def warm_up(pool: WarmSlots, label: str, *phases: PhaseSpec) -> None:
    """Have slots of this kind wait."""
    pool.expect(label=label, phases=phases, trees=(TREE,), due_in_s=0)
    wait_for(lambda: pool.waiting() == 2)


def use(pool: WarmSlots, label: str, spec: PhaseSpec, who: str) -> PhaseResult:
    inputs = Inputs(env={spec.name: {"MINE": who}}, stdin={spec.name: f"{who}\n".encode()})
    [result] = run_all(pool, label, spec, inputs=inputs)
    return result


def test_nothing_of_an_earlier_submission(pool: WarmSlots, label: str) -> None:
    warm_up(pool, label, LOOK)
    for who in ("ann", "bob", "eve", "joe"):
        result = use(pool, label, LOOK, who)
        assert result.verdict is Verdict.OK
        assert result.stdout.split() == [b".:", b"/tmp:", who.encode(), who.encode()]


def test_demand_alone_warms_up(pool: WarmSlots, label: str) -> None:
    use(pool, label, LOOK, "ann")
    assert pool.waiting() == 0
    use(pool, label, LOOK, "bob")
    wait_for(lambda: pool.waiting() > 0)
    slot = pool.prepare(label=label, phases=(LOOK,), trees=(TREE,))
    assert slot.ready()
    slot.go(Inputs())
    assert not slot.ready()
    [result] = results(slot)
    slot.destroy()
    assert result.ok


def test_metered_from_the_go(pool: WarmSlots, label: str) -> None:
    spec = python("print(1)", limits=replace(LIMITS, wall_time_s=1, cpu_time_s=1))
    warm_up(pool, label, spec)
    # Longer than it may run.
    slot = pool.prepare(label=label, phases=(spec,), trees=(TREE,))
    began = time.monotonic()
    wait_for(lambda: time.monotonic() - began > 1.2)
    slot.go(Inputs())
    [result] = results(slot)
    slot.destroy()
    assert (result.verdict, result.stdout) == (Verdict.OK, b"1\n")
    assert result.wall_time_s < 1


def test_limits_hold_in_a_warm_slot(pool: WarmSlots, label: str) -> None:
    spec = phase(
        *("run", "sh", "-c", "i=0; while :; do i=$((i+1)); done"),
        limits=replace(LIMITS, cpu_time_s=0.3),
    )
    warm_up(pool, label, spec)
    assert run(pool, label, spec).verdict is Verdict.CPU_TIME


def test_a_broken_slot_is_not_handed_out(pool: WarmSlots, backend: Backend, label: str) -> None:
    warm_up(pool, label, LOOK)
    kill_all_of(backend, label)
    assert use(pool, label, LOOK, "ann").verdict is Verdict.OK


def test_nothing_waits_once_it_is_retired(pool: WarmSlots, backend: Backend, label: str) -> None:
    warm_up(pool, label, LOOK)
    running = pool.prepare(label=label, phases=(LOOK,), trees=(TREE,))
    pool.retire()
    assert pool.waiting() == 0
    running.go(Inputs())
    assert results(running)[0].ok
    pool.close()
    assert backend.leftovers(label) == []


def test_a_killed_slot_goes_nowhere(pool: WarmSlots, label: str) -> None:
    warm_up(pool, label, sh("sleep 100"))
    slot = pool.prepare(label=label, phases=(sh("sleep 100"),), trees=(TREE,))
    slot.go(Inputs())
    slot.kill()
    began = time.monotonic()
    assert results(slot)[-1].verdict is Verdict.KILLED
    assert time.monotonic() - began < 5
    slot.destroy()
    slot.destroy()


@pytest.mark.parametrize("env", [{"A=B": "x"}, {"A": "x\0y"}, {"A": "x" * 200_000}])
def test_an_environment_that_cannot_be(backend: Backend, label: str, env: dict[str, str]) -> None:
    slot = backend.sandbox.prepare(label=label, phases=(LOOK,), trees=(TREE,))
    try:
        with pytest.raises(SandboxRefusedError):
            slot.go(Inputs(env={LOOK.name: env}))
    finally:
        slot.destroy()


def test_environment_that_comes_with_the_go(backend: Backend, label: str) -> None:
    spec = sh('printf "%s|" "$OWN" "$BOTH" "$GO"', env={"OWN": "a", "BOTH": "b"})
    awkward = 'it\'s "$(id)" `id`\nand \\n $HOME %s'
    inputs = Inputs(env={spec.name: {"BOTH": "c", "GO": awkward}})
    [result] = run_all(backend.sandbox, label, spec, inputs=inputs)
    assert result.stdout.decode() == f"a|c|{awkward}|"


def kill_all_of(backend: Backend, label: str) -> None:
    """Kill every process of a label's slots."""
    if backend.name == "docker":
        docker("kill", *docker("ps", "-q", f"--filter=label=job-engine.label={label}").split())
        return
    for group in Path("/sys/fs/cgroup").glob(f"**/{label}/*/holder/cgroup.procs"):
        for pid in group.read_text().split():
            os.kill(int(pid), signal.SIGKILL)
    groups = list(Path("/sys/fs/cgroup").glob(f"**/{label}/*/holder/cgroup.procs"))
    wait_for(lambda: not any(group.read_text() for group in groups))
