"""What the routes share: who asks, and how an answer is written."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import Request
from starlette.responses import Response

from job_engine.api.call import Reply
from job_engine.api.errors import CREDENTIALS_REQUIRED
from job_engine.api.identity import Identity
from job_engine.api.services import Services
from job_engine.api.types.base import RequestForbiddenError


def services_of(request: Request) -> Services:
    """Return what the application shares."""
    services: Services = request.app.state.services
    return services


async def identify(request: Request) -> Identity:
    """Say who sends the request."""
    return await services_of(request).identify(request)


Shared = Annotated[Services, Depends(services_of)]
Caller = Annotated[Identity, Depends(identify)]


def allow(who: Identity, *claims: str) -> None:
    """Raise `ForbiddenError` for who has none of these claims."""
    if not any(claim in who for claim in claims):
        raise RequestForbiddenError(CREDENTIALS_REQUIRED)


def respond(reply: Reply) -> Response:
    """Write an answer; non-ASCII is escaped, as CIMI's servers do."""
    return json_response(reply.body, reply.status, dict(reply.headers))


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Write JSON."""
    return Response(
        json.dumps(body, separators=(",", ":")),
        status,
        headers,
        media_type="application/json",
    )
