"""The three messages that come for every job: what is claimed, reported and pushed.

FastAPI describes them, and another route than its own answers them: what it does for a
request of any kind, in Python, costs as much as the work on a small batch. They await the
store's writer, so nothing waits for it on the event loop.
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
    """A route of a function of a message, the services and who sent it, to the answer."""

    claims: ClassVar[tuple[str, ...]]
    """Who may send it, which is settled before anything of it is read."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
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
    """Read a body as one message. Raises what FastAPI answers with 400.

    The long way, through Python's own objects, takes ten times as long for a batch.
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
    return ClaimReplies(replies=list(replies))


@executors.post("/report")
async def report(message: ReportRequest, services: Shared, who: Caller) -> ReportReplies:
    """Take progress, ends, retries and releases, each under its fence."""
    receipts = await wrap_future(services.store.claims.submit_report(message.reports, who.user_id))
    return ReportReplies(receipts=list(receipts))


@distributors.post("/pushed")
async def pushed(message: EntriesRequest, services: Shared, _who: Caller) -> EntriesReply:
    """Record the entries of jobs that were pushed."""
    written = await wrap_future(services.store.feed.submit_pushed(message.entries))
    return EntriesReply(written=list(written))
