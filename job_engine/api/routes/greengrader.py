"""GreenGrader's form: `POST /submit` with a student, an assignment and a file.

Its fields are `name`, `image` and `script`. Who sends it has to be logged in, and may be a
submitter; each submission is a job of its own, however often a student hands in.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any, Final

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from job_engine.api.answers import json_response
from job_engine.api.call import Call, make_call
from job_engine.api.errors import RequestError
from job_engine.api.identity import SUBMITTER
from job_engine.api.openapi.answers import also, answer
from job_engine.api.openapi.schemas import STRING, Json
from job_engine.api.routes.blobs import record
from job_engine.api.routes.common import Caller, Shared, allow
from job_engine.api.types.job_create import create

router = APIRouter(tags=["greengrader"])

_MAX_FIELDS: Final = 8
_ZIP: Final = b"PK\x03\x04"
_MEDIA_TYPE: Final = "application/zip"
_FORM: Final[Json] = {
    "requestBody": {
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "name": STRING,
                        "image": STRING,
                        "script": {"type": "string", "format": "binary"},
                    },
                    "required": ["name", "image", "script"],
                }
            }
        },
        "required": True,
    }
}
_ANSWER: Final[Json] = {
    "type": "object",
    "properties": {"status": STRING, "job": STRING},
    "required": ["status", "job"],
}


@router.post(
    "/submit",
    summary="Hand in a file or a zip, as GreenGrader's form does.",
    response_class=Response,
    responses={200: answer(200, _ANSWER), **also(400, 403, 413)},
    openapi_extra=_FORM,
)
async def submit(request: Request, services: Shared, who: Caller) -> Response:
    """Create a `grade` job from the form."""
    allow(who, SUBMITTER)
    call = await make_call(request, services, who)
    try:
        form = await request.form(max_files=1, max_fields=_MAX_FIELDS)
    except HTTPException as error:
        raise RequestError(f"the form is malformed: {error.detail}") from error
    try:
        name, image = _text(form, "name"), _text(form, "image")
        script = form.get("script")
        if not isinstance(script, UploadFile):
            raise RequestError("the form has no file `script`")
        data = await script.read()
    finally:
        await form.close()
    job = await run_in_threadpool(_create, call, name, image, script.filename or "script", data)
    return json_response({"status": "Job created", "job": job})


def _text(form: FormData, key: str) -> str:
    value = form.get(key)
    if not isinstance(value, str) or not value.strip():
        raise RequestError(f"the form has no field `{key}`")
    return value.strip()


def _create(call: Call, name: str, image: str, file: str, data: bytes) -> str:
    """Store a zip as an upload, put any other file into the job; return the job's id."""
    payload: dict[str, Any] = {"assignment": image, "student": name}
    if data.startswith(_ZIP):
        payload["submission"] = {"archive": {"blob": f"blob/{_upload(call, file, data)}"}}
    else:
        content = {"base64": base64.b64encode(data).decode()}
        payload["submission"] = {"files": {file: content}}
    body = {"action": "grade", "payload": json.dumps(payload)}
    # Recorded in the audit trail as an added job.
    added = replace(call, path="/api/job", body=body)
    return str(create(added).body["resource-id"])


def _upload(call: Call, file: str, data: bytes) -> str:
    incoming = call.services.blob_files.receive()
    try:
        incoming.write(data)
        return record(call.services, incoming, call.who.active_claim, _MEDIA_TYPE, file)
    finally:
        incoming.discard()
