"""An action that leaves a trace of its own, so that a checker need not believe the engine."""

from __future__ import annotations

import json
import os
import time

from pydantic import BaseModel

from job_engine.plugins import ActionFailedError, Context, Result, action


class Payload(BaseModel):
    """Where to write, how long to take, and how to end."""

    file: str
    seconds: float = 0.0
    fail: bool = False
    deaf_s: float = 0.0
    """Seconds to ignore every order to stop, without a call to the context."""


@action("trace", payload=Payload, timeout_s=300)
def trace(context: Context[Payload]) -> Result:
    """Append a start, a beat every 50 ms and an end to the file, with the system's clock."""
    run = f"{os.getpid()}-{context.job.fence}"
    sink = os.open(context.payload.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(event: str) -> None:
        line = {"job": context.job.id, "run": run, "event": event, "at": time.monotonic()}
        os.write(sink, (json.dumps(line) + "\n").encode())

    try:
        note("start")
        deaf_until = time.monotonic() + context.payload.deaf_s
        while time.monotonic() < deaf_until:
            time.sleep(0.05)
        end = time.monotonic() + context.payload.seconds
        while (left := end - time.monotonic()) > 0:
            context.sleep(min(left, 0.05))
            note("beat")
        note("end")
    finally:
        os.close(sink)
    if context.payload.fail:
        raise ActionFailedError("as asked")
    return Result(message=run)
