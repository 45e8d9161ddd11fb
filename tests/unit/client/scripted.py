"""A server that answers as it is told, one request after the other."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar

from tests.support.loopback import LoopbackServer


@dataclass(frozen=True)
class Say:
    """One answer."""

    status: int = 200
    body: Any = field(default_factory=dict)
    """JSON, or bytes as they are."""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Drop:
    """End the connection without an answer: nobody knows what became of the request."""


@dataclass(frozen=True)
class Hang:
    """Say nothing until the server stops."""


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Scripted(LoopbackServer):
    """A server with an answer for each request; the last one is repeated."""

    def __init__(self, *script: Say | Drop | Hang) -> None:
        super().__init__(_Handler, script=self)
        self.asked: list[Asked] = []
        self.stopping = threading.Event()
        self._script: Sequence[Say | Drop | Hang] = script

    def __exit__(self, *exception: object) -> None:
        self.stopping.set()
        super().__exit__(*exception)

    @property
    def lines(self) -> list[str]:
        """Methods and paths, in the order they came."""
        return [f"{asked.method} {asked.path.removeprefix('/api/')}" for asked in self.asked]

    def next(self, asked: Asked) -> Say | Drop | Hang:
        """Note a request, and return its answer."""
        self.asked.append(asked)
        return self._script[min(len(self.asked), len(self._script)) - 1]


class _Handler(BaseHTTPRequestHandler):
    script: ClassVar[Scripted]

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {k.lower(): v for k, v in self.headers.items()}
        answer = self.script.next(Asked(self.command, self.path, headers, body))
        if isinstance(answer, Hang):
            self.script.stopping.wait(30)
        if not isinstance(answer, Say):
            return
        content = answer.body
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


for _method in ("GET", "PUT", "POST", "DELETE", "PATCH"):
    setattr(_Handler, f"do_{_method}", _Handler._answer)
