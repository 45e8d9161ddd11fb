"""`cancel_children_jobs`: cancel the children of a cancelled bulk job; created by the API."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from job_engine.client import Api
from job_engine.plugins import ActionFailedError, Context, Result, action


class Payload(BaseModel):
    """No attributes: the bulk job is the target of the job."""

    model_config = ConfigDict(extra="forbid")


@action("cancel_children_jobs", payload=Payload, timeout_s=1800, restricted=True, needs=(Api,))
def cancel_children_jobs(context: Context[Payload]) -> Result:
    """Cancel every unfinished job whose `parent-job` is the target."""
    target = context.job.document.get("target-resource")
    if target is None:
        raise ActionFailedError("The job has no `target-resource`, so no children to cancel.")
    cancelled = context.need(Api).cancel_children(target["href"])
    return Result(message=f"Cancelled {cancelled} jobs.")
