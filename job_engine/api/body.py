"""Bodies with a limit: every one but an upload is read, and unpacked, up to so many bytes."""

from __future__ import annotations

import asyncio
import json
import zlib
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from job_engine.api.errors import RequestError, TooLargeError, body_of

UPLOAD_PATH = "/api/blob"
BODY_S: Final = 120.0
"""Seconds that a body may take; whoever trickles theirs keeps a connection, and its memory."""


class SlowBodyError(RequestError):
    """The request's body took too long to arrive."""

    status = 408


class BodyMiddleware:
    """Reads the body before the application does, and hands it over in one piece."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        upload = scope["type"] == "http" and (
            scope["method"] == "POST" and scope["path"] == UPLOAD_PATH
        )
        if scope["type"] != "http" or upload or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(BODY_S):
                body = await self._read(receive, _header(scope, b"content-encoding"))
        except TimeoutError:
            await _refuse(send, SlowBodyError())
            return
        except RequestError as error:
            await _refuse(send, error)
            return
        if body is None:
            return  # gone before the end: there is nobody to answer
        await self._app(scope, _replay(body, receive), send)

    async def _read(self, receive: Receive, encoding: bytes) -> bytes | None:
        unpacked = _Gzip() if encoding == b"gzip" else _Plain()
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            chunk = message.get("body", b"")
            while chunk:
                piece, chunk = unpacked.feed(chunk, self._max_bytes + 1 - len(body))
                body += piece
                if len(body) > self._max_bytes:
                    raise TooLargeError(
                        f"the request is larger than this server's limit of {self._max_bytes} bytes"
                    )
            if not message.get("more_body", False):
                return bytes(body)


class _Plain:
    def feed(self, chunk: bytes, _room: int) -> tuple[bytes, bytes]:
        return chunk, b""


class _Gzip:
    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=31)

    def feed(self, chunk: bytes, room: int) -> tuple[bytes, bytes]:
        """Unpack up to `room` bytes; also returns what of the chunk is left to unpack."""
        try:
            piece = self._inflate.decompress(chunk, room)
        except zlib.error as error:
            raise RequestError(f"the body is not gzip: {error}") from error
        if self._inflate.unused_data:  # kept by zlib, and so without a limit
            raise RequestError("the body goes on after its gzip ends")
        return piece, self._inflate.unconsumed_tail


def _header(scope: Scope, name: bytes) -> bytes:
    return next((bytes(v).lower() for k, v in scope["headers"] if k == name), b"")


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


async def _refuse(send: Send, error: RequestError) -> None:
    content: dict[str, Any] = body_of(error, None)
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(content).encode()})
