"""`noop`: do nothing for a given time, to try out an engine or to measure it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from job_engine.plugins import ActionFailedError, Context, Result, action


class Payload(BaseModel):
    """How long to take, and how to end."""

    model_config = ConfigDict(extra="forbid")

    seconds: float = Field(0.0, ge=0, le=3600, description="How long to take.")
    fail: str | None = Field(None, description="Fail with this message.")


@action("noop", payload=Payload, timeout_s=3700)
def noop(context: Context[Payload]) -> Result | None:
    """Wait for `seconds`, in steps that show progress, and then succeed or fail."""
    steps = min(100, max(1, int(context.payload.seconds * 4)))
    for step in range(steps if context.payload.seconds else 0):
        context.progress(100 * step // steps)
        context.sleep(context.payload.seconds / steps)
    if context.payload.fail is not None:
        raise ActionFailedError(context.payload.fail)
    return None
