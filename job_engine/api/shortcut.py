"""The way to jobs, past FastAPI.

What FastAPI and Starlette do for a request of any kind (a stack of handlers of errors and
exits, and every route asked in turn) takes a quarter of what a small one costs the event
loop, and jobs are what nearly all requests are about.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from job_engine.errors import JobEngineError

_COLLECTION: Final = "/api/job"
_RESOURCE: Final = "/api/job/{uuid}"
_OF_ONE: Final = _COLLECTION + "/"

AnswerError = Callable[[Request, Exception], Awaitable[Response]]
"""Makes the answer of an error of ours."""


class Shortcut:
    """Answers for a collection of jobs, and for one, by their own routes' endpoints."""

    def __init__(self, app: ASGIApp, routes: Iterable[Route], answer_error: AnswerError) -> None:
        """`app` answers everything else; `routes` are those of resources."""
        self._app = app
        by_path = {route.path: route for route in routes}
        self._collection, self._resource = by_path[_COLLECTION], by_path[_RESOURCE]
        self._answer_error = answer_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        route = self._route(scope) if scope["type"] == "http" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive, send)
        try:
            response: Response = await route.endpoint(request)
        except JobEngineError as error:
            response = await self._answer_error(request, error)
        await response(scope, receive, send)

    def _route(self, scope: Scope) -> Route | None:
        """Return the route that answers, and note what its path says; None: another one does."""
        path: str = scope["path"]
        if path == _COLLECTION:
            route, said = self._collection, {}
        elif path.startswith(_OF_ONE) and "/" not in path[len(_OF_ONE) :]:
            route, said = self._resource, {"uuid": path[len(_OF_ONE) :]}
        else:
            return None
        if route.methods is None or scope["method"] not in route.methods or path == _OF_ONE:
            return None
        scope["path_params"] = said
        return route
