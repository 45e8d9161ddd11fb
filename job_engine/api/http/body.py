"""Middleware that reads and decompresses request bodies, within limits of size and time."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
import zlib
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from job_engine.api.answers import error_response
from job_engine.api.errors import (
    CREDENTIALS_REQUIRED,
    RequestError,
    RequestForbiddenError,
    TooLargeError,
)
from job_engine.api.identity import STRANGER

UPLOAD_PATH: Final = "/api/blob"
LOGIN_PATH: Final = "/api/session"
DRAIN_S: Final = 10.0
"""Seconds for which the rest of a refused body is read."""
BODY_S: Final = 120.0
"""Seconds in which a body has to arrive; a slow one would hold a connection and its memory."""
IDLE_S: Final = 20.0
"""Seconds without a byte, in a body or an upload, after which it is given up."""

STRANGERS_BYTES: Final = 64 * 1024
"""Bytes read from anonymous callers: a login is shorter, and parsing JSON takes time."""
_ENDED: Final = "body_ended"
"""Key of a request's `state`: its body has arrived whole."""


class SlowBodyError(RequestError):
    """The request's body took too long to arrive."""

    status = 408


class UnknownEncodingError(RequestError):
    """The body's Content-Encoding is none that this server reads: send it as it is, or gzip."""

    status = 415


class BodyMiddleware:
    """Reads the whole body, and passes it on in one piece; uploads are passed on as they arrive."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and _is_upload(scope):
            await self._app(scope, _impatient(_noting_end(scope, receive)), send)
            return
        if scope["type"] != "http" or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        limit = self._limit(scope)
        receive = _noting_end(scope, receive)
        try:
            _check_length(_header(scope, b"content-length"), limit)
            unpacked = _unpacker(_header(scope, b"content-encoding"))
            body = await _read(_impatient(receive, BODY_S), unpacked, limit)
        except RequestError as error:
            if isinstance(error, TooLargeError):
                await drain(scope, receive, self._max_bytes)
                if limit < self._max_bytes and scope["path"] != LOGIN_PATH:
                    # Clients that log in again by themselves do so after a 403 only.
                    error = RequestForbiddenError(CREDENTIALS_REQUIRED)
            await error_response(error, close=True)(scope, receive, send)
            return
        if body is None:
            return  # the client has disconnected
        await self._app(scope, _replay(body, receive), send)

    def _limit(self, scope: Scope) -> int:
        stranger = scope.get("state", {}).get(STRANGER, False)
        return min(self._max_bytes, STRANGERS_BYTES) if stranger else self._max_bytes


async def drain(scope: Scope, receive: Receive, limit: int) -> None:
    """Read the rest for a while, so that a client that is still sending sees the response.

    Closing the connection at once would reset it: an expired session would look like a
    network failure, and the client would not log in again. A client that waits for
    `100 Continue` sends nothing more.
    """
    if _header(scope, b"expect") == b"100-continue" or scope["state"].get(_ENDED):
        return
    with contextlib.suppress(TimeoutError, RuntimeError):
        async with asyncio.timeout(DRAIN_S):
            while limit > 0:
                message = await receive()
                limit -= len(message.get("body", b""))
                if not message.get("more_body", False):  # it is whole, or its sender is gone
                    return


def _check_length(length: bytes, limit: int) -> None:
    """Refuse a body whose `Content-Length` is too large, before any of it is read."""
    if length.isdigit() and int(length) > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"the request is larger than this server's limit of {limit} bytes")


async def _read(receive: Receive, unpacked: _Plain | _Gzip, limit: int) -> bytes | None:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunk = message.get("body", b"")
        while chunk:
            piece, chunk = unpacked.feed(chunk, limit + 1 - len(body))
            body += piece
            if len(body) > limit:
                raise _too_large(limit)
        if not message.get("more_body", False):
            unpacked.end()
            return bytes(body)


class _Plain:
    def end(self) -> None:
        """Accept the end: an uncompressed body has no format of its own."""

    def feed(self, chunk: bytes, _room: int) -> tuple[bytes, bytes]:
        return chunk, b""


class _Gzip:
    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=31)

    def end(self) -> None:
        """Refuse a body that was cut off, which JSON alone may not show."""
        if not self._inflate.eof:
            raise RequestError("the body ends before its gzip does")

    def feed(self, chunk: bytes, room: int) -> tuple[bytes, bytes]:
        """Return up to `room` decompressed bytes, and the rest of the chunk."""
        try:
            piece = self._inflate.decompress(chunk, room)
        except zlib.error as error:
            raise RequestError(f"the body is not gzip: {error}") from error
        if self._inflate.unused_data:  # zlib would collect it without a limit
            raise RequestError("the body goes on after its gzip ends")
        return piece, self._inflate.unconsumed_tail


def _unpacker(encoding: bytes) -> _Plain | _Gzip:
    if encoding in (b"gzip", b"x-gzip"):
        return _Gzip()
    if encoding in (b"", b"identity"):
        return _Plain()
    raise UnknownEncodingError


def _noting_end(scope: Scope, receive: Receive) -> Receive:
    """Return a `receive` that notes the end of the body in the request's state."""
    state = scope.setdefault("state", {})

    async def noting() -> Message:
        message = await receive()
        if not message.get("more_body", False):
            state[_ENDED] = True
        return message

    return noting


def _impatient(receive: Receive, whole_s: float = math.inf) -> Receive:
    """Return a `receive` that raises `SlowBodyError` for a client that is too slow.

    That is one that sends nothing for a while, or needs more than `whole_s` seconds in all.
    """
    ends_s = time.monotonic() + whole_s

    async def impatient() -> Message:
        try:
            async with asyncio.timeout(min(IDLE_S, ends_s - time.monotonic())):
                return await receive()
        except TimeoutError:
            raise SlowBodyError from None

    return impatient


def _header(scope: Scope, name: bytes) -> bytes:
    return next((bytes(v).lower() for k, v in scope["headers"] if k == name), b"")


def _is_upload(scope: Scope) -> bool:
    return bool(scope["method"] == "POST" and scope["path"] == UPLOAD_PATH)


def _has_body(scope: Scope) -> bool:
    return bool(_header(scope, b"transfer-encoding")) or _header(scope, b"content-length") not in (
        b"",
        b"0",
    )


def _replay(body: bytes, receive: Receive) -> Receive:
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay
