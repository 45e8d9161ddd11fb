"""An action that leaves a mark: which job, and when its first line ran."""

from __future__ import annotations

import os
import time

from pydantic import BaseModel

from job_engine.plugins import Context, action


class Payload(BaseModel):
    """Where to leave the mark, and how long to take."""

    file: str
    seconds: float = 0.0


@action("mark", payload=Payload, timeout_s=300)
def mark(context: Context[Payload]) -> None:
    """Append `<job> <monotonic seconds>` to the file, and then wait."""
    started_at = time.monotonic()
    sink = os.open(context.payload.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(sink, f"{context.job.id} {started_at!r}\n".encode())
    finally:
        os.close(sink)
    if context.payload.seconds:
        context.sleep(context.payload.seconds)
