"""CIMI over HTTP: maps methods and paths to methods of resource types (docs/cimi.md §1.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Match, Route

from job_engine.api.answers import json_response
from job_engine.api.call import Call, Reply, make_call
from job_engine.api.errors import MethodNotAllowedError, UnknownRouteError
from job_engine.api.identity import STRANGER
from job_engine.api.routes.common import respond, services_of
from job_engine.api.types.base import ResourceType
from job_engine.api.types.entry_point import ENTRY_POINT, edit_entry_point, entry_point

METHODS: Final = ["GET", "PUT", "POST", "DELETE", "PATCH"]

_ON_COLLECTION: Final[Mapping[str, str]] = {
    **dict.fromkeys(("GET", "HEAD", "PUT"), "query"),
    "POST": "add",
    "DELETE": "bulk_delete",
}
"""Method of `ResourceType` for each HTTP method; the server drops the body for HEAD."""
_ON_RESOURCE: Final[Mapping[str, str]] = {
    **dict.fromkeys(("GET", "HEAD"), "get"),
    "PUT": "edit",
    "DELETE": "delete",
}
_READ: Final = ("GET", "HEAD")
_READABLE: Final = ("log", "get-context", "get-groups", "get-peers")
"""Operations that accept GET as well as POST."""


def cimi_routes(
    registry: Mapping[str, ResourceType], others: Sequence[BaseRoute] = ()
) -> list[Route]:
    """Return the routes of every type, and fallback routes for all paths not in `others`.

    They are plain Starlette routes, because FastAPI's handling costs as much as creating a
    job; `openapi/cimi.py` describes them.
    """
    routes = [route for name, kind in registry.items() for route in _of_type(name, kind)]
    return [*routes, *_of_entry_point(registry), *_of_the_rest(registry, others)]


def _of_type(name: str, kind: ResourceType) -> list[Route]:
    """Return the routes of one type."""
    on_all, on_one = _allowed(kind, _ON_COLLECTION), _allowed(kind, _ON_RESOURCE)

    async def on_collection(request: Request) -> Response:
        call = await _call(request)
        if call.method not in _ON_COLLECTION:
            raise MethodNotAllowedError(call.method, call.path, on_all)
        handle: Callable[[Call], Reply] = getattr(kind, _ON_COLLECTION[call.method])
        return await _serve(request, call, handle, on_all)

    async def on_resource(request: Request) -> Response:
        call = await _call(request)
        if call.method not in _ON_RESOURCE:
            raise MethodNotAllowedError(call.method, call.path, on_one)
        handle: Callable[[Call, str], Reply] = getattr(kind, _ON_RESOURCE[call.method])
        resource_id = f"{name}/{request.path_params['uuid']}"
        return await _serve(request, call, lambda call: handle(call, resource_id), on_one)

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


def _allowed(kind: ResourceType, requests: Mapping[str, str]) -> Sequence[str]:
    """Return the HTTP methods among `requests` that a type supports."""
    return [method for method, request in requests.items() if kind.knows(request)]


def _known(registry: Mapping[str, ResourceType], name: str, *further: str) -> Sequence[str]:
    """Return the HTTP methods of the path `name/…further`; empty for an unknown path."""
    if name == ENTRY_POINT and not further:
        return [*_READ, "PUT"]
    if name in registry and len(further) < 2:
        return _allowed(registry[name], _ON_RESOURCE if further else _ON_COLLECTION)
    if name in registry and len(further) == 2 and further[1] in registry[name].operations():
        return [*_READ, "POST"] if further[1] in _READABLE else ["POST"]
    return ()


def _of_entry_point(registry: Mapping[str, ResourceType]) -> list[Route]:
    answers = {**dict.fromkeys(_READ, entry_point), "PUT": edit_entry_point}

    async def on_entry_point(request: Request) -> Response:
        call = await _call(request)
        answer = answers.get(call.method)
        if answer is None:
            raise MethodNotAllowedError(call.method, call.path, list(answers))
        return await _serve(request, call, lambda call: answer(call, list(registry)))

    return [Route(f"/api/{ENTRY_POINT}", on_entry_point, methods=METHODS)]


def _methods_at(others: Sequence[BaseRoute], request: Request) -> Sequence[str]:
    """Return the HTTP methods that the routes `others` support at the request's path."""
    return [
        method
        for route in others
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE
        for method in sorted(route.methods or ())
    ]


def _of_the_rest(registry: Mapping[str, ResourceType], others: Sequence[BaseRoute]) -> list[Route]:
    async def preflight(request: Request) -> Response:
        # Without the body that docs/cimi.md names: HTTP forbids one with 204 (h11 enforces it).
        known = _known(registry, *request.path_params["path"].split("/")) or _methods_at(
            others, request
        )
        known = known or METHODS
        return Response(status_code=204, headers={"Allow": ", ".join([*known, "OPTIONS"])})

    async def other(request: Request) -> Response:
        await _call(request)
        path = request.path_params["path"]
        if path and not path.endswith("/") and path.count("/") <= 1:
            raise MethodNotAllowedError(
                request.method, request.url.path, _methods_at(others, request)
            )
        if not path:
            return RedirectResponse(f"/api/{ENTRY_POINT}", 302)
        raise UnknownRouteError(resource_id=request.url.path)

    async def redirect(request: Request) -> Response:
        path = request.url.path
        if request.method not in _READ or path.startswith("//"):
            # A client that follows the redirect would take the entry point for its answer.
            raise UnknownRouteError("unknown resource: the API is under /api/", path)
        # GreenGrader's clients check with this that the server runs, and follow no redirect.
        location = {"Location": f"/api/{ENTRY_POINT}"}
        return json_response({"message": "Server is running"}, 302, location)

    return [
        Route("/api/{path:path}", preflight, methods=["OPTIONS"]),
        Route("/api/{path:path}", other, methods=METHODS),
        Route("/{path:path}", redirect, methods=METHODS),
    ]


async def _call(request: Request) -> Call:
    return await make_call(request, services_of(request))


async def _serve(
    request: Request,
    call: Call,
    handle: Callable[[Call], Reply],
    allowed: Sequence[str] = (),
) -> Response:
    """Identify the caller and run `handle` in one thread, because a second hand-over costs more.

    `allowed` are the HTTP methods that a 405 lists.
    """
    services = services_of(request)

    def serve() -> Reply:
        who = services.identify_here(request)
        if who.user_id is not None:
            call.params.check()
        try:
            return handle(replace(call, who=who))
        except MethodNotAllowedError as error:
            error.allowed = error.allowed or allowed
            raise

    if getattr(request.state, STRANGER, False):
        reply = await anyio.to_thread.run_sync(serve, limiter=services.strangers)
    else:
        reply = await services.threads.run(serve)
    return respond(reply)
