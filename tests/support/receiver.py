"""A receiver of webhooks on loopback, which believes nothing but a signature it checks itself."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar

from tests.support.loopback import LoopbackServer


@dataclass(frozen=True)
class Received:
    """One message that came."""

    path: str
    headers: dict[str, str]
    """By their names in lower case."""
    raw: bytes

    @property
    def id(self) -> str:
        """The message's id."""
        return self.headers["webhook-id"]

    @property
    def body(self) -> Any:
        """What it says."""
        return json.loads(self.raw)

    def signed_with(self, secret: str) -> bool:
        """Whether this secret signed it: by the text of Standard Webhooks, not by our code."""
        key = base64.b64decode(secret.split("_", 1)[1])
        content = b".".join(
            [self.id.encode(), self.headers["webhook-timestamp"].encode(), self.raw]
        )
        expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
        given = [part.split(",", 1) for part in self.headers["webhook-signature"].split(" ")]
        return any(version == "v1" and value == expected for version, value in given)


Answer = Callable[[Received], int]


class Receiver(LoopbackServer):
    """A server that keeps the messages that it gets.

    Args:
        answers: the status codes to answer with, one after the other; then `last`.
    """

    def __init__(self, answers: Sequence[int] = (), last: int = 204) -> None:
        super().__init__(_Handler, receiver=self)
        self.received: list[Received] = []
        self.before_answer: Callable[[Received], None] = lambda _: None
        self._answers = list(answers)
        self._last = last
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where to send messages to."""
        return f"{super().url}/hook"

    def take(self, message: Received) -> int:
        """Keep a message, and return the status to answer with."""
        with self._lock:
            self.received.append(message)
            status = self._answers.pop(0) if self._answers else self._last
        self.before_answer(message)
        return status


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    receiver: ClassVar[Receiver]

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """Take a message."""
        raw = self.rfile.read(int(self.headers["content-length"]))
        headers = {k.lower(): v for k, v in self.headers.items()}
        status = self.receiver.take(Received(self.path, headers, raw))
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        if status != 204:
            self.send_header("Content-Length", "0")
        self.end_headers()
