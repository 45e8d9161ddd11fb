"""The three messages that are sent for every job: claim, report and pushed.

FastAPI only describes them. `MessageRoute` answers them, because FastAPI's own handling costs
as much as the work on a small batch. The handlers await the store's writer.
"""

from __future__ import annotations

from asyncio import wrap_future
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, get_type_hints

from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from job_engine.api.identity import DISTRIBUTOR, EXECUTOR
from job_engine.api.routes.common import Caller, Shared, allow, services_of
from job_engine.model.protocol.claims import (
    ClaimReplies,
    ClaimRequest,
    ReportReplies,
    ReportRequest,
)
from job_engine.model.protocol.feed import EntriesReply, EntriesRequest


class MessageRoute(APIRoute):
    """A route whose endpoint takes a message, the services and the caller, and answers one."""

    claims: ClassVar[tuple[str, ...]]
    """Claims that may send it, checked before the body is parsed."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of requests."""
        answer = self.endpoint
        kind: type[BaseModel] = get_type_hints(answer)["message"]

        async def handle(request: Request) -> Response:
            services = services_of(request)
            who = await services.identify(request)
            allow(who, *self.claims)
            reply = await answer(_read(await request.body(), kind), services, who)
            return Response(reply.model_dump_json(), media_type="application/json")

        return handle


def _read(body: bytes, kind: type[BaseModel]) -> BaseModel:
    """Parse a body as one message. Raises the error that FastAPI answers with 400.

    Parsing JSON into Python objects first would take ten times as long for a batch.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        raise RequestValidationError(
            [{**p, "loc": ("body", *p["loc"])} for p in problems]
        ) from error


class _FromExecutor(MessageRoute):
    claims = (EXECUTOR,)


class _FromDistributor(MessageRoute):
    claims = (DISTRIBUTOR,)


executors = APIRouter(prefix="/api/engine", tags=["engine"], route_class=_FromExecutor)
distributors = APIRouter(prefix="/api/engine", tags=["engine"], route_class=_FromDistributor)


@executors.post("/claim")
async def claim(message: ClaimRequest, services: Shared, who: Caller) -> ClaimReplies:
    """Answer claims: which of them to run."""
    replies = await wrap_future(services.store.claims.submit_claim(message, who.user_id))
    services.metrics.claimed(replies)
    return ClaimReplies(replies=list(replies))


@executors.post("/report")
async def report(message: ReportRequest, services: Shared, who: Caller) -> ReportReplies:
    """Take progress, ends, retries and releases, each under its fence."""
    done = await wrap_future(services.store.claims.submit_report(message.reports, who.user_id))
    services.metrics.reported(message.reports, done)
    return ReportReplies(receipts=list(done.receipts))


@distributors.post("/pushed")
async def pushed(message: EntriesRequest, services: Shared, _who: Caller) -> EntriesReply:
    """Record the entries of jobs that were pushed."""
    written = await wrap_future(services.store.feed.submit_pushed(message.entries))
    return EntriesReply(written=list(written))
