"""Deciding the verdict of a phase from what was observed, by one pure function (`decide`).

The rules, in order:

- the engine's own kill is KILLED, too much output is OUTPUT;
- a kill because the host had no memory raises an error (a platform fault);
- exit code 0 that was not forced is OK, whatever was hit on the way: a test harness
  that survives the out-of-memory kill of a child and reports it has done its work;
- any other end is explained by the resource that ran out (processes, memory, disk, file
  size), before the time that was wasted afterwards, before the bare exit code or signal.
"""

from __future__ import annotations

import signal as signals
from dataclasses import dataclass, replace
from typing import Final

from job_engine.errors import SandboxError
from job_engine.sandbox.base import Limits, PhaseResult, Verdict

_SHELL_SIGNAL_BASE: Final = 128
_LAST_SIGNAL: Final = 64


@dataclass(frozen=True, kw_only=True)
class Observations:
    """What a backend observed of a phase. Only `exit_code` and `signal` come from inside."""

    exit_code: int | None
    """None when a signal ended it."""
    signal: int | None = None
    killed: bool = False
    """The engine ended it: cancelled, drained, or the claim was lost."""
    output_exceeded: bool = False
    """It was killed because it printed more than its limit."""
    wall_time_exceeded: bool = False
    """It was killed because it ran longer than its limit."""
    cpu_time_exceeded: bool = False
    """It was killed because its processes used more CPU time than their limit."""
    cpu_time_s: float = 0.0
    oom_kills: int = 0
    """Processes that the kernel killed for want of memory."""
    starved: bool = False
    """Whether these kills were the host's: no limit of the phase was hit."""
    kernel_memory_exceeded: bool = False
    """It was killed because it took too much that no cgroup counts: file locks, sockets."""
    process_limit_hits: int = 0
    """Forks that the process limit refused."""
    tree_full: bool = False
    """A writable tree (or the private /tmp) had no bytes or no inodes left."""
    file_at_limit: bool = False
    """A file of exactly the file-size limit was found: the write that hit it was cut there."""


def split_status(code: int) -> tuple[int | None, int | None]:
    """Return (exit code, signal) of a status as a shell, bubblewrap and Docker report it.

    All three fold "ended by signal n" into 128+n. A program that itself exits with such
    a code is reported as if by that signal, which is what its shell would have said too.
    """
    number = code - _SHELL_SIGNAL_BASE
    return (None, number) if 0 < number <= _LAST_SIGNAL else (code, None)


def decide(seen: Observations, limits: Limits) -> Verdict:
    """Return the verdict on a phase that ran under `limits`.

    Raises `SandboxError` for an end that the host may have caused.
    """
    if seen.killed:
        return Verdict.KILLED
    if seen.output_exceeded:
        return Verdict.OUTPUT
    if seen.starved and not seen.kernel_memory_exceeded:
        # Even if a harness survived it: with its full memory the run could have ended otherwise.
        raise SandboxError("the host ran out of memory, and the kernel ended processes for it")
    out_of_time = seen.wall_time_exceeded or seen.cpu_time_exceeded
    if seen.exit_code == 0 and not out_of_time:
        return Verdict.OK
    return _resource(seen) or _time(seen, limits) or _bare(seen)


def ended_with_phase(result: PhaseResult) -> PhaseResult:
    """Return the result of a companion that was still running when its phase ended.

    Being killed then is no fault; a limit that it met before, and survived, is reported.
    """
    if result.verdict in (Verdict.SIGNAL, Verdict.EXIT):
        return replace(result, verdict=Verdict.OK)
    return result


def _resource(seen: Observations) -> Verdict | None:
    if seen.signal == signals.SIGXFSZ:
        return Verdict.FILE_SIZE
    # A fork bomb runs into both limits; the processes are its cause, the memory a symptom.
    if seen.process_limit_hits:
        return Verdict.PROCESSES
    if seen.oom_kills or seen.kernel_memory_exceeded:
        return Verdict.MEMORY
    if seen.tree_full:
        return Verdict.DISK
    return Verdict.FILE_SIZE if seen.file_at_limit else None


def _time(seen: Observations, limits: Limits) -> Verdict | None:
    if seen.cpu_time_exceeded or seen.signal == signals.SIGXCPU:
        return Verdict.CPU_TIME
    if seen.wall_time_exceeded:
        return Verdict.WALL_TIME
    # RLIMIT_CPU sends SIGKILL to a process that handles SIGXCPU.
    if seen.signal == signals.SIGKILL and seen.cpu_time_s >= limits.cpu_time_kill_s:
        return Verdict.CPU_TIME
    return None


def _bare(seen: Observations) -> Verdict:
    return Verdict.EXIT if seen.signal is None else Verdict.SIGNAL
