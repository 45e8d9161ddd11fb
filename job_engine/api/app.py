"""The ASGI application: services, middleware, routes, and how errors are answered."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import anyio.to_thread
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

import job_engine
from job_engine.api.answers import error_response, json_response
from job_engine.api.bootstrap import bootstrap
from job_engine.api.concurrency.threads import THREADS
from job_engine.api.errors import MalformedJsonError, ProblemsError, status_of
from job_engine.api.http.body import BodyMiddleware
from job_engine.api.http.nul import NulMiddleware
from job_engine.api.http.rates import RateLimitMiddleware
from job_engine.api.http.request_ids import RequestIdMiddleware
from job_engine.api.openapi.document import describe
from job_engine.api.registry import make_registry
from job_engine.api.routes import (
    blobs,
    engine,
    events,
    greengrader,
    health,
    job_stream,
    messages,
    metrics,
    submissions,
    webhooks,
)
from job_engine.api.routes.cimi import cimi_routes
from job_engine.api.services import Services, make_services
from job_engine.api.shortcut import Shortcut
from job_engine.api.types.base import ResourceType
from job_engine.errors import JobEngineError
from job_engine.log import get_logger
from job_engine.settings import ApiSettings
from job_engine.store.base import Clock, system_clock_ms
from job_engine.store.factory import open_store

log = get_logger(__name__)

COMPRESSED_FROM_BYTES: Final = 1024
"""Smaller responses are not compressed: it would cost more than it saves."""
COMPRESSION_LEVEL: Final = 4
"""gzip's level: higher ones take twice as long, and hardly make JSON smaller."""
NOT_COMPRESSED: Final = (*DEFAULT_EXCLUDED_CONTENT_TYPES, "application/octet-stream")
"""Event streams, which must not be buffered, and uploads, most of which are compressed."""
_NO_GZIP: Final = re.compile(rb"gzip\s*;\s*q=0(\.0*)?\s*(,|$)", re.IGNORECASE)
"""A refusal of gzip, which `GZipMiddleware` would take for consent (RFC 9110 §12.5.3)."""

_CORS_REQUEST_HEADERS: Final = (
    *("Content-Type", "Content-Encoding", "If-Match", "If-None-Match"),
    *("Idempotency-Key", "bulk", "Last-Event-ID", "X-Request-ID", "Range"),
)
"""Headers that pages of another origin may send."""
_CORS_RESPONSE_HEADERS: Final = (
    *("Location", "ETag", "Retry-After", "X-Request-ID", "Idempotency-Replayed"),
    *("Content-Disposition", "Content-Range"),
)
"""Headers that pages of another origin may read."""

ROUTERS: Final = (
    job_stream.router,
    submissions.router,
    messages.executors,
    messages.distributors,
    health.router,
    metrics.router,
    engine.router,
    webhooks.router,
    events.router,
    blobs.router,
    greengrader.router,
)
"""FastAPI's own routes, asked in this order, before those of resource types."""


def create_app(
    settings: ApiSettings,
    clock: Clock = system_clock_ms,
    types: Iterable[type[ResourceType]] = (),
) -> FastAPI:
    """Return the application; it opens the store when it starts, and closes it at its end.

    `types` are resource types beside those of this package. While it runs,
    `app.state.services` has its services, and `app.state.admin_password` the password of
    `admin` if this start generated one.
    """
    registry = make_registry(types)
    app = _Application(
        title="Job Engine",
        version=job_engine.__version__,
        lifespan=_lifespan(settings, clock),
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: "-".join([*map(str, route.tags), route.name]),
    )
    app.outer_middleware = _middleware(app, settings)
    app.add_exception_handler(JobEngineError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    for router in ROUTERS:
        app.include_router(router)
    app.resource_routes = cimi_routes(
        registry, [route for router in ROUTERS for route in router.routes]
    )
    app.router.routes += app.resource_routes
    app.openapi = lambda: _openapi(app, registry)  # type: ignore[method-assign]
    return app


def _lifespan(
    settings: ApiSettings, clock: Clock
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Return the context manager that opens the store at the start, and closes it at the end."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        store = open_store(settings.store_url, clock)
        await run_in_threadpool(store.start)
        try:
            services: Services = await run_in_threadpool(make_services, settings, store)
            app.state.services = services
            app.state.admin_password = await run_in_threadpool(bootstrap, services)
            store.database.listen(services.streams.committed)
            yield
            services.streams.close()
            services.threads.close()
        finally:
            await run_in_threadpool(store.stop)

    return lifespan


def _middleware(app: FastAPI, settings: ApiSettings) -> Sequence[Middleware]:
    """Return what every request passes, outermost first."""
    return (
        *_cors(settings.cors_origins),
        Middleware(RequestIdMiddleware),
        Middleware(_CompressionMiddleware),
        Middleware(
            RateLimitMiddleware, callers=lambda: app.state.services, answer_error=_answer_error
        ),
        Middleware(NulMiddleware),
        Middleware(BodyMiddleware, max_bytes=settings.max_body_bytes),
    )


def _cors(origins: Sequence[str]) -> Sequence[Middleware]:
    """Return what lets pages of these origins read responses, errors of the others included."""
    if not origins:
        return ()
    return (
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_credentials=True,
            allow_methods=["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH"],
            allow_headers=_CORS_REQUEST_HEADERS,
            expose_headers=_CORS_RESPONSE_HEADERS,
        ),
    )


class _Application(FastAPI):
    """FastAPI behind our own middleware and the `Shortcut` to jobs."""

    outer_middleware: Sequence[Middleware] = ()
    """What every request passes before FastAPI's own middleware, outermost first."""
    resource_routes: Sequence[Route] = ()
    """The routes of resource types, among which `Shortcut` looks up those of jobs."""

    def build_middleware_stack(self) -> ASGIApp:
        """Return the whole stack; Starlette calls this once."""
        within = super().build_middleware_stack()
        assert isinstance(within, ServerErrorMiddleware)
        # It answers crashes in plain text; `RequestIdMiddleware` answers them in CIMI's form.
        within = within.app
        app: ASGIApp = Shortcut(within, self.resource_routes, _answer_error)
        for middleware, arguments, options in reversed(self.outer_middleware):
            app = middleware(app, *arguments, **options)
        return app


def _openapi(app: FastAPI, registry: Mapping[str, ResourceType]) -> dict[str, Any]:
    if app.openapi_schema is None:
        app.openapi_schema = describe(app, registry)
    return app.openapi_schema


class _CompressionMiddleware:
    """Compresses responses to GET, HEAD and PUT; a PUT of a collection is a search.

    Responses to other methods are short and frequent. So are those to distributors, and random
    ids hardly get smaller.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._compressed = GZipMiddleware(
            app,
            minimum_size=COMPRESSED_FROM_BYTES,
            compresslevel=COMPRESSION_LEVEL,
            exclude_content_types=NOT_COMPRESSED,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reads = scope["type"] == "http" and scope["method"] in ("GET", "HEAD", "PUT")
        compresses = (
            reads and not scope["path"].startswith(engine.PREFIX) and not _refuses_gzip(scope)
        )
        await (self._compressed if compresses else self._app)(scope, receive, send)


def _refuses_gzip(scope: Scope) -> bool:
    return any(
        name == b"accept-encoding" and _NO_GZIP.search(value) for name, value in scope["headers"]
    )


async def _answer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, JobEngineError)
    if status_of(error) >= 500:
        log.error("request.failed", path=request.url.path, error=error.detail)
    return error_response(error, _resource_id(request))


async def _answer_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = error.errors()
    if any(problem["type"] == "json_invalid" for problem in problems):
        return error_response(MalformedJsonError())
    lines = [f"{'/'.join(map(str, p['loc'][1:])) or p['loc'][0]}: {p['msg']}" for p in problems]
    return error_response(ProblemsError("invalid request:", lines))


async def _answer_http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    body = {"status": error.status_code, "message": str(error.detail)}
    return json_response(body, error.status_code, dict(error.headers or {}))


def _resource_id(request: Request) -> str | None:
    """Return the id of the resource that the path names, else None."""
    uuid = request.path_params.get("uuid")
    parts = request.url.path.split("/")
    return f"{parts[2]}/{uuid}" if uuid and len(parts) > 2 else None
