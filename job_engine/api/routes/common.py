"""What routes share: the services, the caller, and writing a response."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from job_engine.api.answers import json_response
from job_engine.api.call import Reply, parse_json
from job_engine.api.errors import CREDENTIALS_REQUIRED, MalformedJsonError, RequestForbiddenError
from job_engine.api.identity import Identity
from job_engine.api.services import Services


def services_of(request: Request) -> Services:
    """Return the application's services."""
    services: Services = request.app.state.services
    return services


async def identify(request: Request) -> Identity:
    """Return the identity of the caller."""
    return await services_of(request).identify(request)


class _StrictRequest(Request):
    async def json(self) -> Any:
        try:
            return parse_json(await self.body())
        except MalformedJsonError as error:
            # The error for which FastAPI has a handler.
            raise json.JSONDecodeError(error.message, "", 0) from error


class StrictRoute(APIRoute):
    """A FastAPI route whose JSON is parsed as strictly as CIMI requests (`parse_json`)."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler, called with a strict request."""
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return strict


async def _shared(request: Request) -> Services:
    # Async, because FastAPI would run a plain function in its thread pool.
    return services_of(request)


Shared = Annotated[Services, Depends(_shared)]
Caller = Annotated[Identity, Depends(identify)]


def allow(who: Identity, *claims: str) -> None:
    """Raise `ForbiddenError` unless the caller has one of these claims."""
    if not any(claim in who for claim in claims):
        raise RequestForbiddenError(CREDENTIALS_REQUIRED)


def respond(reply: Reply) -> Response:
    """Return the response for a reply."""
    if reply.status == 304:
        return Response(status_code=304, headers=reply.headers)
    return json_response(reply.body, reply.status, dict(reply.headers))
