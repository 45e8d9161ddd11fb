"""A dispatcher that routes requests for jobs past FastAPI.

For a small request, FastAPI's and Starlette's own dispatch (exception middleware, exit stacks,
matching one route after another) takes a quarter of the event loop's time. Nearly all requests
are for jobs.
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
"""Makes the response for an error of the engine."""


class Shortcut:
    """Calls the endpoints of the job collection and of single jobs directly."""

    def __init__(self, app: ASGIApp, routes: Iterable[Route], answer_error: AnswerError) -> None:
        """`app` answers all other requests; `routes` are those of the resource types."""
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
        """Return the route of a request for jobs, and set its path parameters; else None."""
        path: str = scope["path"]
        if path == _COLLECTION:
            route, parameters = self._collection, {}
        elif path.startswith(_OF_ONE) and "/" not in path[len(_OF_ONE) :]:
            route, parameters = self._resource, {"uuid": path[len(_OF_ONE) :]}
        else:
            return None
        if route.methods is None or scope["method"] not in route.methods or path == _OF_ONE:
            return None
        scope["path_params"] = parameters
        return route
