"""Middleware that gives every request an id, in its response and in its log lines.

It is the outermost one, and answers exceptions that nothing else caught with that id.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from job_engine.api.answers import error_response
from job_engine.api.errors import StoppingError, UnexpectedError
from job_engine.log import bound, get_logger

log = get_logger(__name__)

HEADER: Final = "x-request-id"
_SANE: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
"""Ids that are safe to write to logs and headers."""


def request_id(given: bytes | None = None) -> str:
    """Return the client's id if it is safe, else a new one."""
    if given is not None and _SANE.fullmatch(given):
        return given.decode("ascii")
    return secrets.token_hex(16)


class RequestIdMiddleware:
    """Adds the id, and answers uncaught exceptions with 500 or 503."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), None)
        mine = request_id(given)
        with bound(request_id=mine):
            await self._answer(scope, receive, _Answer(send, mine))

    async def _answer(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        try:
            await self._app(scope, receive, answer)
        except asyncio.CancelledError:
            # The server is stopping, and this request took too long. Nobody awaits this task.
            log.info("request.cancelled", method=scope["method"], path=scope["path"])
            if answer.status is None:
                await error_response(StoppingError(), close=True)(scope, receive, answer)
        except Exception as error:
            log.error("request.crashed", method=scope["method"], path=scope["path"], exc_info=error)
            if answer.status is not None:
                raise  # the response is incomplete, so the server has to close the connection
            await error_response(UnexpectedError(error))(scope, receive, answer)
        finally:
            log.debug(
                "request.answered",
                method=scope["method"],
                path=scope["path"],
                status=answer.status,
            )


class _Answer:
    """A `send` that adds the id to the headers, and remembers whether the response began."""

    def __init__(self, send: Send, mine: str) -> None:
        self._send = send
        self._header = (HEADER.encode(), mine.encode())
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", []), self._header]}
        await self._send(message)
