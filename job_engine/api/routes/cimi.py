"""CIMI over HTTP: which method of which path asks a resource type for what (§1.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from job_engine.api.answers import json_response
from job_engine.api.call import Call, Reply, make_call
from job_engine.api.errors import MethodNotAllowedError, UnknownRouteError
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


def cimi_router(registry: Mapping[str, ResourceType]) -> APIRouter:
    """Return the routes of every type, and of everything else under `/api`."""
    router = APIRouter()
    for name, kind in registry.items():
        _add_type(router, name, kind)
    _add_entry_point(router, registry)
    _add_rest(router)
    return router


def _add_type(router: APIRouter, name: str, kind: ResourceType) -> None:
    async def on_collection(request: Request) -> Response:
        call = await _call(request)
        handler = _ON_COLLECTION.get(call.method)
        if handler is None:
            raise MethodNotAllowedError(call.method, call.path)
        return respond(await run_in_threadpool(handler, kind, call))

    async def on_resource(request: Request, uuid: str) -> Response:
        call = await _call(request)
        handler = _ON_RESOURCE.get(call.method)
        if handler is None:
            raise MethodNotAllowedError(call.method, call.path)
        return respond(await run_in_threadpool(handler, kind, call, f"{name}/{uuid}"))

    async def on_operation(request: Request, uuid: str, operation: str) -> Response:
        call = await _call(request)
        return respond(await run_in_threadpool(kind.operate, call, f"{name}/{uuid}", operation))

    # What of these there is, and what it answers, is described in `openapi/cimi.py`.
    for path, endpoint in (
        (f"/api/{name}", on_collection),
        (f"/api/{name}/{{uuid}}", on_resource),
        (f"/api/{name}/{{uuid}}/{{operation}}", on_operation),
    ):
        router.add_api_route(path, endpoint, methods=METHODS, include_in_schema=False)


def _add_entry_point(router: APIRouter, registry: Mapping[str, ResourceType]) -> None:
    async def read(request: Request) -> Response:
        return json_response(entry_point(await _call(request), list(registry)))

    async def refuse(request: Request) -> Response:
        raise MethodNotAllowedError(request.method, request.url.path)

    path = f"/api/{ENTRY_POINT}"
    router.add_api_route(path, read, methods=["GET"], include_in_schema=False)
    others = [method for method in METHODS if method != "GET"]
    router.add_api_route(path, refuse, methods=others, include_in_schema=False)


def _add_rest(router: APIRouter) -> None:
    async def preflight(_request: Request, _path: str = "") -> Response:
        # The contract's body cannot be: HTTP has none with a 204, and h11 enforces it.
        return Response(status_code=204)

    async def other(request: Request, path: str) -> Response:
        await _call(request)
        if path and not path.endswith("/") and path.count("/") <= 1:
            raise MethodNotAllowedError(request.method, request.url.path)
        if not path:
            return RedirectResponse(f"/api/{ENTRY_POINT}", 302)
        raise UnknownRouteError(resource_id=request.url.path)

    async def redirect(_request: Request, _path: str = "") -> Response:
        return RedirectResponse(f"/api/{ENTRY_POINT}", 302)

    def hidden(path: str, endpoint: Any, methods: list[str]) -> None:
        router.add_api_route(path, endpoint, methods=methods, include_in_schema=False)

    hidden("/api/{_path:path}", preflight, ["OPTIONS"])
    hidden("/api/{path:path}", other, METHODS)
    hidden("/{_path:path}", redirect, METHODS)


async def _call(request: Request) -> Call:
    services = services_of(request)
    return await make_call(request, services, await services.identify(request))
