"""Runs single phases in slots of their own, the way the tests need it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping

from job_engine.sandbox.base import (
    WORKSPACE,
    Inputs,
    Limits,
    Mount,
    PhaseResult,
    PhaseSpec,
    Sandbox,
    Slot,
    Tree,
    Verdict,
)

MIB = 2**20
HOME = "/mnt/submission"
TREE = Tree(name=WORKSPACE, size_bytes=16 * MIB, inodes=2_000)
LIMITS = Limits(
    cpu_time_s=10,
    wall_time_s=20,
    memory_bytes=128 * MIB,
    processes=32,
    file_size_bytes=8 * MIB,
    output_bytes=64 * 2**10,
)


def phase(name: str, *command: str, **fields: object) -> PhaseSpec:
    """Return a phase over the workspace, with the suite's limits unless told otherwise."""
    given: dict[str, object] = {
        "limits": LIMITS,
        "mounts": (Mount(tree=WORKSPACE, target=HOME),),
        "workdir": HOME,
        **fields,
    }
    return PhaseSpec(name=name, command=command, **given)  # type: ignore[arg-type]


def sh(script: str, **fields: object) -> PhaseSpec:
    """Return a phase that runs a shell script."""
    return phase("run", "sh", "-c", script, **fields)


def python(script: str, **fields: object) -> PhaseSpec:
    """Return a phase that runs a Python program."""
    return phase("run", "python3", "-c", script, **fields)


def tar(files: Mapping[str, bytes]) -> io.BytesIO:
    """Return an uncompressed tar stream of regular files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    stream.seek(0)
    return stream


def results(slot: Slot) -> list[PhaseResult]:
    """Collect the phases' results, leaving out the starts."""
    return [event for event in slot.collect() if isinstance(event, PhaseResult)]


def run_all(
    sandbox: Sandbox,
    label: str,
    *phases: PhaseSpec,
    trees: tuple[Tree, ...] = (TREE,),
    inputs: Inputs | None = None,
) -> list[PhaseResult]:
    """Run phases in a slot of their own and destroy it."""
    slot = sandbox.prepare(label=label, phases=phases, trees=trees)
    try:
        slot.go(inputs or Inputs())
        return results(slot)
    finally:
        slot.destroy()


def run(sandbox: Sandbox, label: str, spec: PhaseSpec, **fields: object) -> PhaseResult:
    """Run one phase in a slot of its own and destroy it."""
    [result] = run_all(sandbox, label, spec, **fields)  # type: ignore[arg-type]
    return result


def assert_grades_normally(sandbox: Sandbox, label: str) -> None:
    """The submission after a hostile one must not notice it."""
    result = run(sandbox, label, sh("echo fine > f; cat f"))
    assert (result.verdict, result.stdout) == (Verdict.OK, b"fine\n")
