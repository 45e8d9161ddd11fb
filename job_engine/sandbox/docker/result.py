"""Making the result of a phase from the end of its container and the state of its trees."""

from __future__ import annotations

from collections.abc import Mapping

from job_engine.sandbox.base import PhaseResult, PhaseSpec, Verdict
from job_engine.sandbox.docker.confine import tmp_tree
from job_engine.sandbox.docker.holder import Holder
from job_engine.sandbox.docker.phase import Ending
from job_engine.sandbox.docker.watch import Stop
from job_engine.sandbox.verdict import Observations, decide, split_status


def read_result(holder: Holder, phase: PhaseSpec, ending: Ending) -> PhaseResult:
    """Return the result of a phase (or companion), its hand-over read from the trees.

    No process of the phase may be running. Raises `SandboxError`.
    """
    exit_code, signal = split_status(ending.status)
    verdict = _verdict(holder, phase, ending)
    files, left_out = ({}, ()) if verdict is Verdict.KILLED else _take(holder, phase)
    return PhaseResult(
        phase=phase.name,
        verdict=verdict,
        exit_code=exit_code,
        signal=signal,
        wall_time_s=ending.wall_time_s,
        cpu_time_s=ending.usage.cpu_time_s,
        peak_memory_bytes=ending.usage.peak_memory_bytes,
        stdout=ending.stdout,
        stderr=ending.stderr,
        files=files,
        left_out=left_out,
    )


def _verdict(holder: Holder, phase: PhaseSpec, ending: Ending) -> Verdict:
    exit_code, signal = split_status(ending.status)
    reason, usage = ending.reason, ending.usage
    killed = reason is Stop.KILLED
    # Only after a failure, because it reads every file's size.
    full, file_at_limit = (False, False) if killed or exit_code == 0 else _space(holder, phase)
    return decide(
        Observations(
            exit_code=exit_code,
            signal=signal,
            killed=killed,
            output_exceeded=reason is Stop.OUTPUT,
            wall_time_exceeded=reason is Stop.WALL_TIME,
            cpu_time_exceeded=reason is Stop.CPU_TIME,
            cpu_time_s=usage.cpu_time_s,
            oom_kills=usage.oom_kills,
            starved=usage.starved,
            kernel_memory_exceeded=reason is Stop.KERNEL_MEMORY,
            process_limit_hits=usage.refused_forks,
            tree_full=full or reason is Stop.DISK,
            file_at_limit=file_at_limit,
        ),
        phase.limits,
    )


def _space(holder: Holder, phase: PhaseSpec) -> tuple[bool, bool]:
    """Return whether a writable tree is full, and whether a file is at the size limit."""
    trees = [tmp_tree(phase), *(mount.tree for mount in phase.mounts if not mount.read_only)]
    found = [holder.space(tree, phase.limits.file_size_bytes) for tree in dict.fromkeys(trees)]
    return any(space.full for space in found), any(space.file_at_limit for space in found)


def _take(holder: Holder, phase: PhaseSpec) -> tuple[Mapping[str, bytes], tuple[str, ...]]:
    files: dict[str, bytes] = {}
    left_out: list[str] = []
    for handover in phase.handover:
        taken, left = holder.take(handover)
        files |= taken
        left_out += left
    return files, tuple(left_out)
