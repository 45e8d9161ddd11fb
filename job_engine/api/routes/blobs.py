"""Uploads and downloads, streamed: a blob is never held in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from fastapi import APIRouter
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from job_engine.api.audit import line_of
from job_engine.api.call import Call, make_call, status_map
from job_engine.api.errors import RequestError, TooLargeError
from job_engine.api.etags import REVALIDATE, knows
from job_engine.api.http.body import UnknownEncodingError, drain
from job_engine.api.http.uploads import FIELD, MultipartFile
from job_engine.api.identity import Identity
from job_engine.api.openapi.answers import Responses, answer, errors
from job_engine.api.openapi.schemas import STRING, Json, ref
from job_engine.api.routes.common import Caller, Shared, allow, respond
from job_engine.api.services import Services
from job_engine.api.types.blob import visible_blob
from job_engine.errors import JobEngineError
from job_engine.log import bound_field
from job_engine.model.acl import USER
from job_engine.store.base import Document
from job_engine.store.blob_files import Incoming

router = APIRouter(prefix="/api/blob", tags=["blob"])

OCTET_STREAM = "application/octet-stream"

_BYTES: Final[Json] = {"type": "string", "format": "binary"}
_UPLOAD: Final[Json] = {
    "parameters": [
        {"name": "name", "in": "query", "description": "Its file name.", "schema": STRING}
    ],
    "requestBody": {
        "content": {
            OCTET_STREAM: {"schema": _BYTES},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {FIELD: _BYTES},
                    "required": [FIELD],
                }
            },
        },
        "required": True,
    },
}


@router.post(
    "",
    summary="Upload a file: the raw body, or a form's `file`.",
    status_code=201,
    response_class=Response,
    responses={201: answer(201, ref("created"))},
    openapi_extra=_UPLOAD,
)
async def upload(request: Request, services: Shared, who: Caller) -> Response:
    """Stream the body into the blob directory, and record who uploaded it."""
    limit = services.settings.max_blob_bytes
    try:
        return await _upload(request, services, who, limit)
    except JobEngineError:
        await drain(request.scope, request.receive, limit)
        raise


async def _upload(request: Request, services: Services, who: Identity, limit: int) -> Response:
    allow(who, USER)  # before the first byte is stored
    _check_length(request, limit)
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        # Whether the bytes or what they unpack to is the file, only the sender knows.
        raise UnknownEncodingError("an upload is not unpacked: send it without Content-Encoding")
    media_type = request.headers.get("content-type", OCTET_STREAM)
    kind = media_type.lower()
    if kind.startswith(("application/json", "application/x-www-form-urlencoded")):
        raise RequestError(f"a blob is uploaded as {OCTET_STREAM}, or as a multipart form's file")
    incoming = await run_in_threadpool(services.blob_files.receive)
    try:
        name = request.query_params.get("name")
        if kind.startswith("multipart/form-data"):
            part = await _receive_form(request, incoming, limit, media_type)
            media_type, name = part.media_type or OCTET_STREAM, name or part.filename
        else:
            await _receive(request.stream(), incoming, limit)
        if incoming.size == 0:
            raise RequestError("the upload is empty")
        digest = await run_in_threadpool(
            record, services, incoming, who.active_claim, media_type, name
        )
        # In a transaction of its own, because a repeated upload writes no row.
        trail_line = line_of(
            who, bound_field("request_id"), "blob.add", f"blob/{digest}", size=incoming.size
        )
        await run_in_threadpool(services.store.audit.record, trail_line)
    finally:
        await run_in_threadpool(incoming.discard)
    return respond(
        status_map(
            201,
            f"blob/{digest} created",
            f"blob/{digest}",
            digest=f"sha256:{digest}",
            size=incoming.size,
        )
    )


CONTENT: Final[Responses] = {
    200: answer(200, _BYTES, OCTET_STREAM),
    304: answer(304, None),
    **{int(status): said for status, said in errors([404], body=False).items()},
}


@router.head("/{digest}/content", include_in_schema=False)
@router.get(
    "/{digest}/content",
    summary="Download the bytes.",
    response_class=FileResponse,
    responses=CONTENT,
)
async def content(digest: str, request: Request, services: Shared, who: Caller) -> Response:
    """Stream the bytes to their owner, an executor or an admin."""
    call = await make_call(request, services, who)
    return await run_in_threadpool(_file, call, digest)


def _file(call: Call, digest: str) -> Response:
    return file_of(call, visible_blob(call, f"blob/{digest}"))


def file_of(call: Call, document: Document) -> Response:
    """Return the answer with the bytes of an upload that the caller may read."""
    digest = str(document["digest"]).removeprefix("sha256:")
    headers = {"ETag": f'"{digest}"', **REVALIDATE}  # the bytes of a digest never change
    if knows(call, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return FileResponse(
        call.services.blob_files.path(digest),
        # Served as a download, so that an upload never runs as a page of this origin.
        media_type=OCTET_STREAM,
        filename=str(document.get("name", "")).rpartition("/")[2] or digest,
        headers={"X-Content-Type-Options": "nosniff", **headers},
    )


def _check_length(request: Request, limit: int) -> None:
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"the upload is larger than this server's limit of {limit} bytes")


async def _receive(stream: AsyncIterator[bytes], incoming: Incoming, limit: int) -> None:
    async for chunk in stream:
        if incoming.size + len(chunk) > limit:
            raise _too_large(limit)
        if chunk:
            await run_in_threadpool(incoming.write, chunk)


async def _receive_form(
    request: Request, incoming: Incoming, limit: int, media_type: str
) -> MultipartFile:
    boundary = parse_options_header(media_type)[1].get(b"boundary")
    if not boundary:
        raise RequestError("the multipart form has no boundary")
    try:
        part = MultipartFile(boundary, incoming, limit, _too_large)
    except FormParserError as error:
        raise RequestError(f"the multipart form is malformed: {error}") from error
    async for chunk in request.stream():
        if chunk:
            await run_in_threadpool(part.feed, chunk)
    part.finish()
    return part


def record(
    services: Services, incoming: Incoming, owner: str, media_type: str, name: str | None
) -> str:
    """Store a complete upload under its owner; return its digest."""
    digest = incoming.complete()
    services.store.blobs.add(
        digest,
        owner,
        incoming.size,
        media_type[:200],
        name and name[:255],
        incoming.adopt,
        services.settings.blob_quota_bytes,
    )
    return digest
