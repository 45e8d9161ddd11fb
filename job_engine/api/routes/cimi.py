"""CIMI over HTTP: which method of which path asks a resource type for what (§1.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from job_engine.api.answers import json_response
from job_engine.api.call import Call, Reply, make_call
from job_engine.api.errors import MethodNotAllowedError, UnknownRouteError
from job_engine.api.identity import STRANGER
from job_engine.api.routes.common import respond, services_of
from job_engine.api.types.base import ResourceType
from job_engine.api.types.entry_point import ENTRY_POINT, entry_point

METHODS: Final = ["GET", "PUT", "POST", "DELETE", "PATCH"]

_ON_COLLECTION: Final[Mapping[str, Callable[[ResourceType, Call], Reply]]] = {
    "GET": lambda kind, call: kind.query(call),
    "PUT": lambda kind, call: kind.query(call),
    "POST": lambda kind, call: kind.add(call),
    "DELETE": lambda kind, call: kind.bulk_delete(call),
}
_ON_RESOURCE: Final[Mapping[str, Callable[[ResourceType, Call, str], Reply]]] = {
    "GET": lambda kind, call, id_: kind.get(call, id_),
    "PUT": lambda kind, call, id_: kind.edit(call, id_),
    "DELETE": lambda kind, call, id_: kind.delete(call, id_),
}


def cimi_routes(registry: Mapping[str, ResourceType]) -> list[Route]:
    """Return the routes of every type, and of everything else under `/api`.

    They read requests themselves, and are described in `openapi/cimi.py`: what FastAPI
    would do for them costs as much as creating a job.
    """
    routes = [route for name, kind in registry.items() for route in _of_type(name, kind)]
    return [*routes, *_of_entry_point(registry), *_of_the_rest()]


def _of_type(name: str, kind: ResourceType) -> list[Route]:
    """Return the routes of one type."""

    async def on_collection(request: Request) -> Response:
        call = await _call(request)
        handler = _ON_COLLECTION.get(call.method)
        if handler is None:
            raise MethodNotAllowedError(call.method, call.path)
        return await _serve(request, call, lambda call: handler(kind, call))

    async def on_resource(request: Request) -> Response:
        call = await _call(request)
        handler = _ON_RESOURCE.get(call.method)
        if handler is None:
            raise MethodNotAllowedError(call.method, call.path)
        resource_id = f"{name}/{request.path_params['uuid']}"
        return await _serve(request, call, lambda call: handler(kind, call, resource_id))

    async def on_operation(request: Request) -> Response:
        call = await _call(request)
        uuid, operation = request.path_params["uuid"], request.path_params["operation"]
        return await _serve(
            request, call, lambda call: kind.operate(call, f"{name}/{uuid}", operation)
        )

    return [
        Route(f"/api/{name}", on_collection, methods=METHODS),
        Route(f"/api/{name}/{{uuid}}", on_resource, methods=METHODS),
        Route(f"/api/{name}/{{uuid}}/{{operation}}", on_operation, methods=METHODS),
    ]


def _of_entry_point(registry: Mapping[str, ResourceType]) -> list[Route]:
    async def read(request: Request) -> Response:
        if request.method != "GET":
            raise MethodNotAllowedError(request.method, request.url.path)
        services = services_of(request)
        call = await make_call(request, services, await services.identify(request))
        return json_response(entry_point(call, list(registry)))

    return [Route(f"/api/{ENTRY_POINT}", read, methods=METHODS)]


def _of_the_rest() -> list[Route]:
    async def preflight(_request: Request) -> Response:
        # The contract's body cannot be: HTTP has none with a 204, and h11 enforces it.
        return Response(status_code=204)

    async def other(request: Request) -> Response:
        await _call(request)
        path = request.path_params["path"]
        if path and not path.endswith("/") and path.count("/") <= 1:
            raise MethodNotAllowedError(request.method, request.url.path)
        if not path:
            return RedirectResponse(f"/api/{ENTRY_POINT}", 302)
        raise UnknownRouteError(resource_id=request.url.path)

    async def redirect(_request: Request) -> Response:
        # Clients of GreenGrader ask whether it runs, and do not follow.
        location = {"Location": f"/api/{ENTRY_POINT}"}
        return json_response({"message": "Server is running"}, 302, location)

    return [
        Route("/api/{path:path}", preflight, methods=["OPTIONS"]),
        Route("/api/{path:path}", other, methods=METHODS),
        Route("/{path:path}", redirect, methods=METHODS),
    ]


async def _call(request: Request) -> Call:
    return await make_call(request, services_of(request))


async def _serve(request: Request, call: Call, handle: Callable[[Call], Reply]) -> Response:
    """Find out who asks, and answer, in one thread: to change to another costs more than either."""
    services = services_of(request)

    def serve() -> Reply:
        who = services.identify_here(request)
        if who.user_id is not None:
            call.params.check()
        return handle(replace(call, who=who))

    if getattr(request.state, STRANGER, False):
        reply = await anyio.to_thread.run_sync(serve, limiter=services.strangers)
    else:
        reply = await services.threads.run(serve)
    return respond(reply)
