"""`cleanup_jobs`: delete old final jobs."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from job_engine.client import Api
from job_engine.plugins import Context, Result, Schedule, action


class Payload(BaseModel):
    """The age from which final jobs are deleted."""

    model_config = ConfigDict(extra="forbid")

    days: int = Field(7, ge=1, description="Age, in days, from which final jobs are deleted.")


@action(
    "cleanup_jobs",
    payload=Payload,
    timeout_s=1800,
    schedule=Schedule(interval_s=86_400),
    restricted=True,
    needs=(Api,),
)
def cleanup_jobs(context: Context[Payload]) -> Result:
    """Delete final jobs created more than `days` ago."""
    deleted = context.need(Api).cleanup(older_than_s=context.payload.days * 86_400)
    return Result(message=f"Deleted {deleted} jobs.")
