"""Middleware that refuses NUL characters in URLs: PostgreSQL cannot store them in texts.

`call.py` refuses them in JSON and forms, so both databases accept the same requests.
"""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from job_engine.api.answers import error_response
from job_engine.api.errors import RequestError


class NulError(RequestError):
    """The request has a NUL character where text belongs."""


_WRITTEN: Final = b"%00"


class NulMiddleware:
    """Refuses URLs that contain a NUL."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and ("\0" in scope["path"] or _WRITTEN in scope["query_string"]):
            await error_response(NulError())(scope, receive, send)
        else:
            await self._app(scope, receive, send)
