"""HTTP as uvicorn reads it with httptools, with a limit on what comes before the body.

httptools gathers a request's head until it is complete, however long that gets.
"""

from __future__ import annotations

from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES: Final = 64 * 1024
"""Request line and headers together."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """Closes a connection whose request has no end of headers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes: int | None = None
        """Bytes of a head so far; None between a head's end and the next request."""

    def data_received(self, data: bytes) -> None:
        """Take what came from the client."""
        if self._head_bytes is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.send_400_response("The request's headers are too long.")
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Begin to count."""
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop counting: a body has a limit of its own."""
        self._head_bytes = None
        super().on_headers_complete()
