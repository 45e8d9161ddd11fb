"""An action that leaves a trace of its own, so that a checker need not believe the engine."""

from __future__ import annotations

import json
import os
import time

from pydantic import BaseModel

from job_engine.plugins import ActionFailedError, Context, Result, RetryPolicy, action


class Payload(BaseModel):
    """Where to write, how long to take, and how to end."""

    file: str
    seconds: float = 0.0
    fail: bool = False
    deaf_s: float = 0.0
    """Seconds to ignore every order to stop, without a call to the context."""
    beat_s: float = 0.05
    scratch_bytes: int = 0
    """How much to write into the scratch directory."""
    tag: str = ""
    """The submitter's own mark, to know the job by whose 201 it never got."""


# A fault of the platform, such as a full disk, never ends a job here: whoever looks at
# the trace wants an execution that ended behind every outcome.
RETRY = RetryPolicy(max_attempts=100, backoff_s=0.5, max_backoff_s=2.0)


@action("trace", payload=Payload, timeout_s=300, retry=RETRY)
def trace(context: Context[Payload]) -> Result:
    """Append a start, beats and an end to the file, with the system's monotonic clock.

    The outcome's message ends with the run, a name that no other execution has.
    """
    run = os.urandom(8).hex()
    sink = os.open(context.payload.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(event: str) -> None:
        line = {"job": context.job.id, "run": run, "event": event, "at": time.monotonic()}
        os.write(sink, (json.dumps({**line, "pid": os.getpid()}) + "\n").encode())

    try:
        note("start")
        if context.payload.scratch_bytes:
            (context.scratch / "file").write_bytes(bytes(context.payload.scratch_bytes))
        deaf_until = time.monotonic() + context.payload.deaf_s
        while time.monotonic() < deaf_until:
            time.sleep(0.05)
        end = time.monotonic() + context.payload.seconds
        while (left := end - time.monotonic()) > 0:
            context.sleep(min(left, context.payload.beat_s))
            note("beat")
        note("end")
    finally:
        os.close(sink)
    if context.payload.fail:
        raise ActionFailedError(f"as asked: {run}")
    return Result(message=run)
