"""HTTP as uvicorn reads it with httptools, with limits on what comes before the body.

httptools gathers a request's head until it is complete, however long that gets and takes.
What is not HTTP is answered in the form of every other error.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from job_engine.api.answers import error_response
from job_engine.api.errors import RequestError
from job_engine.api.request_ids import HEADER, request_id

MAX_HEAD_BYTES: Final = 64 * 1024
"""Request line and headers together."""
HEAD_S: Final = 20.0
"""Seconds from the first byte of a request to the end of its headers."""
ONCE: Final = frozenset(
    {
        *(b"host", b"content-type", b"content-encoding", b"authorization"),
        *(b"nuvla-authn-info", b"idempotency-key", b"if-match"),
    }
)
"""Headers of which a second one may be read by somebody else than the first."""


class HeadTooLongError(RequestError):
    """The request's headers are too long."""

    status = 431


class HeadTooSlowError(RequestError):
    """The request's headers took too long to arrive."""

    status = 408


class BadHttpError(RequestError):
    """Invalid HTTP request received."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """Closes a connection whose request has no end of headers, or not in time."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes: int | None = None
        """Bytes of a head so far; None between a head's end and the next request."""
        self._too_slow: asyncio.TimerHandle | None = None
        self._reason: str | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came from the client."""
        if self._too_slow is None and self._idle:
            self._wait_for_head()
        if self._head_bytes is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(HeadTooLongError())
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Begin to count."""
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop counting, and waiting: a body has limits of its own."""
        self._head_bytes = None
        self._stop_waiting()
        self._check_headers()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        self._refuse(BadHttpError(self._reason or msg))

    @property
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _check_headers(self) -> None:
        """Refuse what two readers of one request could read in two ways (RFC 9112 §3.2)."""
        names = Counter(name for name, _ in self.headers)
        twice = sorted(name.decode() for name in ONCE if names[name] > 1)
        if twice:
            self._reason = f"the header {twice[0]} is there more than once"
        elif names[b"host"] == 0 and self.parser.get_http_version() == "1.1":
            self._reason = "the header host is missing"
        if self._reason is not None:
            # The parser hands it on as a request that is invalid.
            raise ValueError(self._reason)

    def _wait_for_head(self) -> None:
        self._too_slow = self.loop.call_later(HEAD_S, self._give_up)

    def _stop_waiting(self) -> None:
        if self._too_slow is not None:
            self._too_slow.cancel()
            self._too_slow = None

    def _give_up(self) -> None:
        self._too_slow = None
        if self.transport.is_closing() or not self._idle:
            return
        if self._head_bytes is None:
            self.transport.close()  # nothing was asked
        else:
            self._refuse(HeadTooSlowError())

    def _refuse(self, error: RequestError) -> None:
        self._stop_waiting()
        answer = error_response(error, close=True)
        headers = [
            *self.server_state.default_headers,
            *answer.raw_headers,
            (HEADER.encode(), request_id().encode()),
        ]
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        self.transport.write(
            b"".join([STATUS_LINE[error.status], *lines, b"\r\n", bytes(answer.body)])
        )
        self.transport.close()
