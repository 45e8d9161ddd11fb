"""uvicorn's HTTP protocol with limits on the size and time of a request's head.

httptools collects a head without limits of its own. Malformed HTTP is answered with an error
in the same form as any other.

A client that offers another protocol, as Java's HttpClient and `curl --http2` do with their
first request, is answered in HTTP/1.1 (RFC 9110 §7.8). httptools would take the body of such
a request for the other protocol.
"""

from __future__ import annotations

import asyncio
from array import array
from typing import Any, Final

from httptools import HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from job_engine.api.answers import error_response
from job_engine.api.errors import RequestError
from job_engine.api.http.cork import CorkedTransport
from job_engine.api.http.request_ids import HEADER, request_id

MAX_HEAD_BYTES: Final = 64 * 1024
"""Most bytes of request line and headers together."""
HEAD_S: Final = 20.0
"""Seconds from the first byte of a request to the end of its headers."""
LINGER_S: Final = 1.0
"""Seconds for which the rest of a refused request is read and dropped.

Closing a socket with unread bytes resets the connection, and the client loses the response.
"""
ONCE: Final = frozenset(
    {
        *(b"host", b"content-type", b"content-encoding", b"authorization"),
        *(b"nuvla-authn-info", b"idempotency-key", b"if-match"),
    }
)
"""Headers that may occur only once: a proxy might read another one than this server does."""
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
"""Headers that say how long a body is."""


class HeadTooLongError(RequestError):
    """The request's headers are too long."""

    status = 431


class UrlTooLongError(RequestError):
    """The URL is too long; send a search by PUT, with its parameters as a form."""

    status = 414


class HeadTooSlowError(RequestError):
    """The request's headers took too long to arrive."""

    status = 408


class BadHttpError(RequestError):
    """Invalid HTTP request received."""


class _Parser(HttpRequestParser):
    """Goes on to parse after the headers of a request that offers another protocol."""

    def __init__(self, protocol: BoundedHttpProtocol) -> None:
        super().__init__(protocol)
        self._protocol = protocol

    def feed_data(self, data: bytes | bytearray | memoryview | array[int]) -> None:
        """Parse received bytes."""
        while True:
            try:
                super().feed_data(data)
            except HttpParserUpgrade as upgrade:
                data = memoryview(data)[upgrade.args[0] :]
                framing = self._protocol.offer_declined()
                if framing:
                    # A head of the same body, for a parser that thinks it has seen it all.
                    super().feed_data(b"POST / HTTP/1.1\r\n" + framing + b"\r\n")
                    self._protocol.body_follows()
            else:
                return


class BoundedHttpProtocol(HttpToolsProtocol):
    """Closes a connection whose request head is too long or takes too long."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = _Parser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        self._head_bytes: int | None = None
        """Bytes of the head so far; None from the end of a head to the next request."""
        self._waiting_since_s: float | None = None
        """When the head began, on the event loop's clock; None: it is complete."""
        self._watch: asyncio.TimerHandle | None = None
        self._closing: asyncio.TimerHandle | None = None
        """Closes the connection of a client that was refused."""
        self._problem: RequestError | None = None
        """Why the request that is read now is refused."""
        self._declined: tuple[Any, ...] | None = None
        """What is known of a request that offered another protocol, while its body is found."""
        self._has_body = False
        """Whether that request has one."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time limit for the first request."""
        super().connection_made(CorkedTransport(transport, self.loop))
        self._waiting_since_s = self.loop.time()
        self._look_again()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time limits."""
        for timer in (self._watch, self._closing):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count and parse bytes of the client."""
        if self._closing is not None:
            return
        if self._waiting_since_s is None and self._idle:
            self._waiting_since_s = self.loop.time()
        if self._head_bytes is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(self._too_long())
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Start to count a head."""
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """End the head's limits; `BodyMiddleware` has those of the body."""
        self._head_bytes = self._waiting_since_s = None
        if self._declined is not None:
            return
        self._check_headers()
        self._has_body = self.parser.should_upgrade() and bool(self._framing())
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Finish a request, unless its body is still to be found."""
        if not self._has_body:
            super().on_message_complete()

    def offer_declined(self) -> bytes:
        """Return the headers of a request's body, which is to be read after all."""
        if not self._has_body:
            return b""
        self._declined = (self.url, self.headers, self.scope, self.expect_100_continue)
        self._has_body = False
        return b"".join(name + b": " + value + b"\r\n" for name, value in self._framing())

    def body_follows(self) -> None:
        """Go on with the request whose body comes now."""
        assert self._declined is not None
        self.url, self.headers, self.scope, self.expect_100_continue = self._declined
        self._declined = None

    def send_400_response(self, msg: str) -> None:
        """Answer malformed HTTP."""
        self._refuse(self._problem or BadHttpError(msg))

    def _framing(self) -> list[tuple[bytes, bytes]]:
        return [(name, value) for name, value in self.headers if name in _FRAMING]

    @property
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _check_headers(self) -> None:
        """Refuse what is too long, or could be read in two ways (RFC 9112 §3.2)."""
        once = [name for name, _ in self.headers if name in ONCE]
        # A head that arrived in one piece was not counted before.
        length = sum(len(name) + len(value) for name, value in self.headers) + len(self.url)
        if length > MAX_HEAD_BYTES:
            self._problem = self._too_long()
        elif len(set(once)) < len(once):
            name = next(name for name in once if once.count(name) > 1)
            self._problem = BadHttpError(f"the header {name.decode()} is there more than once")
        elif b"host" not in once and self.parser.get_http_version() == "1.1":
            self._problem = BadHttpError("the header host is missing")
        if self._problem is not None:
            # httptools then reports the request as invalid.
            raise self._problem

    def _too_long(self) -> RequestError:
        return UrlTooLongError() if len(self.url) > MAX_HEAD_BYTES / 2 else HeadTooLongError()

    def _look_again(self) -> None:
        # One timer that repeats: a timer for each request would cost all of them time.
        self._watch = self.loop.call_later(HEAD_S / 4, self._look)

    def _look(self) -> None:
        since_s = self._waiting_since_s
        if since_s is not None and self._idle and self.loop.time() - since_s > HEAD_S:
            self._give_up()
        else:
            self._look_again()

    def _give_up(self) -> None:
        if self._head_bytes is None:
            self.transport.close()  # no request has begun
        else:
            self._refuse(HeadTooSlowError())

    def _refuse(self, error: RequestError) -> None:
        if self._watch is not None:
            self._watch.cancel()  # or it would refuse a second time
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
        self.transport.write_eof()
        self._closing = self.loop.call_later(LINGER_S, self.transport.close)
