"""The stream of one job: log, phases and tests as they happen, as server-sent events.

It continues after the offset in `Last-Event-ID` or `offset`, else from the start, and ends
with the job. Callers who may read the job may follow it; events for staff are sent only to
callers who manage the job or may edit it.

A browser's EventSource connects again after the end, with the id of the last event: 204 is
what stops it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Request
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from job_engine.api.access import project, rights_held
from job_engine.api.call import Call, make_call
from job_engine.api.concurrency.streams import log_cut
from job_engine.api.errors import RequestError
from job_engine.api.openapi.answers import Responses, also, answer
from job_engine.api.routes.common import Caller, Shared
from job_engine.api.routes.events import KEEPALIVE_S, POLL_S, SEND_TIMEOUT_S
from job_engine.api.types.base import check
from job_engine.errors import ForbiddenError, NotFoundError, StoreError
from job_engine.model import FINAL_STATES, JobState
from job_engine.model.acl import STAFF, Right
from job_engine.store.base import Document
from job_engine.store.jobs.logs import LOG, LOG_TOPIC, Offset, StreamItem

router = APIRouter(prefix="/api/job", tags=["job"])

PACE_S: Final = 0.1
"""Seconds for which news of all jobs is collected before streams check for their own job."""

_WAITED_FOR: Final[dict[str, float]] = {
    LOG_TOPIC: PACE_S,
    **dict.fromkeys(map(str, JobState), 0.0),
}
_SHOWN: Final[tuple[str, ...]] = ("state", "progress", "status-message", "return-code")
_END: Final = "end"
"""The last event, and its id."""
_STREAM: Final[Responses] = {
    200: answer(200, {"type": "string"}, "text/event-stream"),
    204: answer(204, None),
    **also(404),
}


class BadOffsetError(RequestError):
    """An offset is the id of an event of this stream, such as 12.3."""


@router.get(
    "/{uuid}/stream",
    summary="Follow a job: its log, phases and tests as server-sent events.",
    response_class=EventSourceResponse,
    responses=_STREAM,
)
async def job_stream(
    uuid: str,
    request: Request,
    services: Shared,
    who: Caller,
    offset: Annotated[str | None, Query()] = None,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
) -> Response:
    """Stream `log`, `phase`, `test`, `output` and `job` events, and `end` when it is over."""
    resume_at = last_event_id or offset
    after = Offset() if resume_at is None or resume_at == _END else Offset.parse(resume_at)
    if after is None:
        raise BadOffsetError
    call = await make_call(request, services, who)
    job = f"job/{uuid}"
    await run_in_threadpool(_look, call, job)  # raises before the stream has begun
    if resume_at == _END:
        return Response(status_code=204)
    return EventSourceResponse(
        _follow(call, job, after),
        ping=KEEPALIVE_S,
        ping_message_factory=lambda: ServerSentEvent(comment="keep-alive"),
        send_timeout=SEND_TIMEOUT_S,
    )


def _look(call: Call, job: str) -> tuple[Document, bool]:
    """Return the job as the caller sees it, and whether they are its staff.

    Raises `NotFoundError` and `ForbiddenError`.
    """
    document = call.services.store.jobs.get(job)
    held = rights_held(call, document)
    check(held, Right.VIEW_DATA | Right.VIEW_ACL, job)
    return project(document, held, call.services.store.clock()), bool(held & STAFF)


async def _follow(call: Call, job: str, after: Offset) -> AsyncIterator[ServerSentEvent | bytes]:
    services = call.services
    waiter = services.streams.open(_WAITED_FOR, "job")
    shown: dict[str, Any] = {}
    try:
        while not services.streams.closed:
            waiter.woken.clear()
            # Read before the stream: if the job is final now, its stream is complete.
            document, staff = await run_in_threadpool(_look, call, job)
            now = {name: document[name] for name in _SHOWN if name in document}
            if now != shown:
                shown = now
                yield _event("job", json.dumps(now, ensure_ascii=False))
            page = await run_in_threadpool(services.store.logs.stream, job, after, staff=staff)
            if page.items:
                yield b"".join(_encode(item) for item in page.items)
            if page.next != after:
                after = page.next
                continue
            if document["state"] in FINAL_STATES:
                yield _event(_END, json.dumps(now, ensure_ascii=False), _END)
                return
            try:
                await asyncio.wait_for(waiter.woken.wait(), POLL_S)
            except TimeoutError:
                continue
    except (NotFoundError, ForbiddenError):
        return  # deleted, or no longer visible to the caller
    except StoreError as error:
        log_cut(waiter, error)
    finally:
        services.streams.leave(waiter)


def _event(kind: str, data: str, event_id: str | None = None) -> bytes:
    return ServerSentEvent(data=data, event=kind, id=event_id).encode()


def _encode(item: StreamItem) -> bytes:
    data = json.dumps({"line": item.text}, ensure_ascii=False) if item.kind == LOG else item.text
    return ServerSentEvent(data=data, id=str(item.offset), event=item.kind).encode()
