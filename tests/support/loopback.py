"""HTTP servers on loopback, in a thread of the test's process."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Self

POLL_S: Final = 0.01
"""Seconds between two looks whether to stop; the default would cost each test half a second."""


class LoopbackServer(ThreadingHTTPServer):
    """A server that answers while its context is entered."""

    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler], **attributes: object) -> None:
        """`attributes` become those of the class that handles requests."""
        super().__init__(("127.0.0.1", 0), type("Handler", (handler,), attributes))
        self._thread = threading.Thread(
            target=self.serve_forever, args=(POLL_S,), name="loopback", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join(10)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"
