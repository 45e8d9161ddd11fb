"""One HTTP connection whose client costs next to nothing.

A comfortable client in Python takes as long for a small request as the server does, and both
are on the way of each request, one after the other. So a benchmark of the server sends bytes
that were put together once, and reads the answers with the parser that the server has too.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Final

import httptools

TIMEOUT_S: Final = 30.0
"""Seconds without a byte after which an answer is given up."""


class Request:
    """A POST of JSON as it goes over the wire.

    Args:
        path: where to, from the root.
        headers: besides those of the body.
        body: the JSON text.
    """

    def __init__(self, path: str, headers: Mapping[str, str], body: str) -> None:
        content = body.encode()
        lines = [
            f"POST {path} HTTP/1.1",
            "Host: 127.0.0.1",
            "Content-Type: application/json",
            f"Content-Length: {len(content)}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        self.wire: Final = "\r\n".join([*lines, "", ""]).encode() + content


class LeanConnection:
    """A connection to a server on loopback that takes one request after the other."""

    def __init__(self, port: int) -> None:
        """Connect to `port`. Raises `OSError`."""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def send(self, request: Request) -> tuple[int, bytes]:
        """Send a request; return the status and the body of its answer.

        Raises `OSError` if the connection breaks, `httptools.HttpParserError` for what is no
        HTTP.
        """
        self._socket.sendall(request.wire)
        answer = _Answer()
        parser = httptools.HttpResponseParser(answer)
        while not answer.complete:
            received = self._socket.recv(65_536)
            if not received:
                raise ConnectionResetError("the server closed the connection")
            parser.feed_data(received)
        return parser.get_status_code(), b"".join(answer.parts)


class _Answer:
    """What the parser calls."""

    def __init__(self) -> None:
        self.complete = False
        self.parts: list[bytes] = []

    def on_body(self, part: bytes) -> None:
        self.parts.append(part)

    def on_message_complete(self) -> None:
        self.complete = True
