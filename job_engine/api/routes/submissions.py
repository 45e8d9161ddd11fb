"""The archive that was handed in with a job, for the job's staff.

An upload belongs to its owner alone. Naming it in a job gives it to the staff of that job, but
not to callers who know its digest, or who may only see the job.
"""

from __future__ import annotations

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from job_engine.api.access import rights
from job_engine.api.call import Call, make_call
from job_engine.api.jobs.references import handed_in
from job_engine.api.routes.blobs import CONTENT, file_of
from job_engine.api.routes.common import Caller, Shared
from job_engine.api.types.base import check
from job_engine.model.acl import Right

router = APIRouter(prefix="/api/job", tags=["job"])


@router.head("/{uuid}/submission", include_in_schema=False)
@router.get(
    "/{uuid}/submission",
    summary="Download the archive that was handed in with a job.",
    response_class=FileResponse,
    responses=CONTENT,
)
async def submission(uuid: str, request: Request, services: Shared, who: Caller) -> Response:
    """Stream it to the job's staff, and to whose upload it is."""
    call = await make_call(request, services, who)
    return await run_in_threadpool(_archive, call, f"job/{uuid}")


def _archive(call: Call, job: str) -> Response:
    document = call.services.store.jobs.get(job)
    held = rights(call.who, document)
    check(held, Right.VIEW_DATA | Right.VIEW_ACL, job)
    return file_of(call, handed_in(call, document, held))
