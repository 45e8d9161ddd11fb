"""A proxy between a client and the API that writes down what passes: section 5 is about that."""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar
from urllib.parse import urlsplit

from tests.support.loopback import LoopbackServer


@dataclass(frozen=True)
class Request:
    """One request as the client sent it, and how the API answered."""

    method: str
    path: str
    """Without `/api/`."""
    query: str
    headers: dict[str, str]
    """By their names in lower case."""
    body: bytes
    status: int

    @property
    def line(self) -> str:
        """Method and path."""
        return f"{self.method} {self.path}"


class Recorder(LoopbackServer):
    """A proxy that hands every request on unchanged."""

    def __init__(self, target: str) -> None:
        super().__init__(_Handler, recorder=self, target=urlsplit(target))
        self.requests: list[Request] = []

    def take(self) -> list[Request]:
        """Return what was written down since the last call."""
        taken, self.requests = self.requests, []
        return taken


class _Handler(BaseHTTPRequestHandler):
    """Carries one connection's requests."""

    protocol_version = "HTTP/1.1"
    recorder: ClassVar[Recorder]
    target: ClassVar[Any]

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _carry(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        upstream = http.client.HTTPConnection(self.target.hostname, self.target.port, timeout=30)
        try:
            upstream.request(self.command, self.path, body, dict(self.headers.items()))
            answer = upstream.getresponse()
            content = answer.read()
        finally:
            upstream.close()
        split = urlsplit(self.path)
        self.recorder.requests.append(
            Request(
                method=self.command,
                path=split.path.removeprefix("/api/"),
                query=split.query,
                headers={k.lower(): v for k, v in self.headers.items()},
                body=body,
                status=answer.status,
            )
        )
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


for _method in ("GET", "PUT", "POST", "DELETE", "PATCH"):
    setattr(_Handler, f"do_{_method}", _Handler._carry)
