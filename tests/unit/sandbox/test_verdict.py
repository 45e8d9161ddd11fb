"""The verdict is one pure function, tested as a table."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from job_engine.errors import SandboxError
from job_engine.sandbox.base import Limits, Verdict
from job_engine.sandbox.verdict import Observations, decide, split_status

LIMITS = Limits(cpu_time_s=5)
KILL = {"exit_code": None, "signal": signal.SIGKILL}


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        ({"exit_code": 0}, Verdict.OK),
        ({"exit_code": 3}, Verdict.EXIT),
        ({"exit_code": None, "signal": signal.SIGSEGV}, Verdict.SIGNAL),
        (KILL, Verdict.SIGNAL),
        # What was hit on the way does not matter to a program that coped with it.
        ({"exit_code": 0, "oom_kills": 1}, Verdict.OK),
        ({"exit_code": 0, "process_limit_hits": 9}, Verdict.OK),
        ({"exit_code": 0, "tree_full": True, "file_at_limit": True}, Verdict.OK),
        ({"exit_code": 0, "cpu_time_s": 5.1}, Verdict.OK),
        # A limit explains a non-zero end.
        ({"exit_code": 1, "oom_kills": 1}, Verdict.MEMORY),
        ({**KILL, "oom_kills": 1}, Verdict.MEMORY),
        ({**KILL, "kernel_memory_exceeded": True}, Verdict.MEMORY),
        ({"exit_code": 1, "process_limit_hits": 1}, Verdict.PROCESSES),
        ({"exit_code": 1, "process_limit_hits": 1, "oom_kills": 1}, Verdict.PROCESSES),
        ({"exit_code": 1, "tree_full": True}, Verdict.DISK),
        ({"exit_code": 1, "file_at_limit": True}, Verdict.FILE_SIZE),
        ({"exit_code": None, "signal": signal.SIGXFSZ}, Verdict.FILE_SIZE),
        ({"exit_code": None, "signal": signal.SIGXFSZ, "tree_full": True}, Verdict.FILE_SIZE),
        ({"exit_code": None, "signal": signal.SIGXCPU}, Verdict.CPU_TIME),
        ({**KILL, "cpu_time_s": 5.0}, Verdict.CPU_TIME),
        ({**KILL, "cpu_time_s": 4.9}, Verdict.SIGNAL),
        ({"exit_code": 1, "cpu_time_s": 9.0}, Verdict.EXIT),
        # What ran out explains more than the time that was wasted afterwards.
        ({**KILL, "wall_time_exceeded": True}, Verdict.WALL_TIME),
        ({**KILL, "cpu_time_exceeded": True}, Verdict.CPU_TIME),
        ({**KILL, "cpu_time_exceeded": True, "wall_time_exceeded": True}, Verdict.CPU_TIME),
        ({**KILL, "wall_time_exceeded": True, "process_limit_hits": 1}, Verdict.PROCESSES),
        ({**KILL, "cpu_time_exceeded": True, "oom_kills": 1}, Verdict.MEMORY),
        # A kill that lost the race against a clean exit was still a kill.
        ({"exit_code": 0, "wall_time_exceeded": True}, Verdict.WALL_TIME),
        ({"exit_code": 0, "output_exceeded": True}, Verdict.OUTPUT),
        ({**KILL, "output_exceeded": True, "process_limit_hits": 1}, Verdict.OUTPUT),
        ({**KILL, "killed": True, "output_exceeded": True}, Verdict.KILLED),
        ({"exit_code": 0, "killed": True}, Verdict.KILLED),
    ],
)
def test_decide(seen: dict[str, object], verdict: Verdict) -> None:
    assert decide(Observations(**seen), LIMITS) is verdict  # type: ignore[arg-type]


@pytest.mark.parametrize("seen", [{"exit_code": 0}, {"exit_code": 1}, KILL])
def test_no_verdict_rests_on_memory_that_the_host_lacked(seen: dict[str, object]) -> None:
    starved = Observations(oom_kills=1, starved=True, **seen)  # type: ignore[arg-type]
    with pytest.raises(SandboxError, match="the host ran out of memory"):
        decide(starved, LIMITS)
    assert decide(replace(starved, killed=True), LIMITS) is Verdict.KILLED
    # It took what no group counts, and the host may be out of memory for that.
    taken = replace(starved, exit_code=None, signal=signal.SIGKILL, kernel_memory_exceeded=True)
    assert decide(taken, LIMITS) is Verdict.MEMORY


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0, (0, None)),
        (1, (1, None)),
        (128, (128, None)),
        (137, (None, 9)),
        (139, (None, 11)),
        (192, (None, 64)),
        (193, (193, None)),
        (255, (255, None)),
    ],
)
def test_split_status(code: int, expected: tuple[int | None, int | None]) -> None:
    assert split_status(code) == expected
