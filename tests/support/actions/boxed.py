"""`trace` from inside a sandbox: a program there writes the trace, through a pipe of its own.

The pipe lies in the root file system that the test makes (`tests/faults/bed/boxes.py`),
so nothing that the executor does or fails to do stands between it and whoever reads it.
"""

from __future__ import annotations

import os
import re

from pydantic import BaseModel

from job_engine.grading.command import CommandPayload, run_command
from job_engine.plugins import Context, PlatformFaultError, Result, RetryPolicy, action
from job_engine.sandbox.base import Sandbox, Verdict
from job_engine.settings import ExecutorSettings

PROGRAM = ("/bin/sh", "/bed/trace.sh")


class Payload(BaseModel):
    """How long to take, and how to end."""

    seconds: float = 0.0
    fail: bool = False
    tag: str = ""


@action(
    "boxed",
    payload=Payload,
    timeout_s=300,
    retry=RetryPolicy(max_attempts=100, backoff_s=0.5, max_backoff_s=2.0),
    needs=(Sandbox, ExecutorSettings),
)
def boxed(context: Context[Payload]) -> Result:
    """Run the tracing program in a slot; its run's name ends the outcome's message."""
    spec = context.payload
    arguments = (context.job.id, f"{os.getpid()}", f"{spec.seconds * 100:.0f}", f"{int(spec.fail)}")
    settings = context.need(ExecutorSettings)
    output = run_command(
        CommandPayload(command=[*PROGRAM, *arguments], files={"some": "input"}, flavour="small"),
        context,
        context.need(Sandbox),
        settings,
        settings.name,
    )
    if output.verdict not in (Verdict.OK, Verdict.EXIT):
        raise PlatformFaultError(f"{output.verdict}: {output.message}")
    run = re.fullmatch(r"[0-9a-f-]+", output.stdout.strip())
    if run is None:
        raise PlatformFaultError(f"No run in {output.stdout!r} {output.stderr!r}")
    return Result(return_code=output.exit_code or 0, message=f"boxed: {run[0]}")
