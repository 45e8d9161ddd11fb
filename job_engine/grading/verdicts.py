"""Verdicts of phases: as words, as a summary, and corrected for exceeded time limits."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from job_engine.grading.flavours import MIB
from job_engine.grading.results.hostile import decode
from job_engine.grading.results.model import PhaseSummary, Visibility
from job_engine.model import FinalVerdict
from job_engine.sandbox.base import Limits, PhaseResult, Verdict

MAX_PHASE_OUTPUT: Final = 32_768
"""Characters of a phase's output that are kept."""

ENDED_BY: Final[Mapping[Verdict, FinalVerdict]] = {
    Verdict.SIGNAL: FinalVerdict.RUNTIME_ERROR,
    Verdict.WALL_TIME: FinalVerdict.TIME_LIMIT,
    Verdict.CPU_TIME: FinalVerdict.TIME_LIMIT,
    Verdict.MEMORY: FinalVerdict.MEMORY_LIMIT,
    Verdict.PROCESSES: FinalVerdict.PROCESS_LIMIT,
    Verdict.DISK: FinalVerdict.DISK_LIMIT,
    Verdict.FILE_SIZE: FinalVerdict.DISK_LIMIT,
    Verdict.OUTPUT: FinalVerdict.OUTPUT_LIMIT,
}
"""The verdict on a submission, by the verdict of tests that were ended."""


def explain(result: PhaseResult, limits: Limits) -> str:
    """Return in a few words how the phase ended, with the limit that it met."""
    match result.verdict:
        case Verdict.OK:
            return f"done in {result.wall_time_s:.1f} s"
        case Verdict.EXIT:
            return f"exit code {result.exit_code}"
        case Verdict.SIGNAL:
            return f"killed by {_signal_name(result.signal)}"
        case Verdict.WALL_TIME:
            return f"took longer than {limits.wall_time_s:g} s"
        case Verdict.CPU_TIME:
            return f"used more than {limits.cpu_time_s:g} s of CPU time"
        case Verdict.MEMORY:
            return f"used more than {limits.memory_bytes // MIB:,} MiB of memory"
        case Verdict.PROCESSES:
            return f"started more than {limits.processes:,} processes"
        case Verdict.DISK:
            return "filled its disk"
        case Verdict.FILE_SIZE:
            return f"wrote a file of more than {limits.file_size_bytes // MIB:,} MiB"
        case Verdict.OUTPUT:
            return f"printed more than {limits.output_bytes:,} bytes"
        case Verdict.KILLED:
            return "killed by the engine"


def summarise(result: PhaseResult, limits: Limits, visibility: Visibility) -> PhaseSummary:
    """Return the summary of a phase that is stored with the results."""
    printed = result.stdout
    if result.stderr:
        printed += b"\n" * bool(printed and not printed.endswith(b"\n")) + result.stderr
    return PhaseSummary(
        name=result.phase,
        verdict=result.verdict,
        message=explain(result, limits),
        exit_code=result.exit_code,
        signal=result.signal,
        wall_time_s=round(result.wall_time_s, 3),
        cpu_time_s=round(result.cpu_time_s, 3),
        peak_memory_bytes=result.peak_memory_bytes,
        output=decode(printed, MAX_PHASE_OUTPUT),
        visibility=visibility,
    )


def exceeded_time(result: PhaseResult, limits: Limits) -> bool:
    """Return whether a phase exceeded its time, but ended before it was killed."""
    by_itself = result.verdict in (Verdict.OK, Verdict.EXIT, Verdict.SIGNAL)
    return by_itself and with_time_verdict(result, limits).verdict is not result.verdict


def with_time_verdict(result: PhaseResult, limits: Limits) -> PhaseResult:
    """Return the result with a time verdict if it exceeded its time."""
    if result.verdict not in (Verdict.OK, Verdict.EXIT, Verdict.SIGNAL):
        return result
    if result.cpu_time_s > limits.cpu_time_s:
        return replace(result, verdict=Verdict.CPU_TIME)
    if result.wall_time_s > limits.wall_time_s:
        return replace(result, verdict=Verdict.WALL_TIME)
    return result


def _signal_name(number: int | None) -> str:
    try:
        return signal.Signals(number or 0).name
    except ValueError:
        return f"signal {number}"
