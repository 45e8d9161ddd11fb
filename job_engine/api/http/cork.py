"""Corking: whatever is written in one turn of the event loop leaves in one system call.

uvicorn writes a response's head and body separately. Each write is a system call, a network
segment and a wake-up of the client, about a tenth of the cost of a small request. (Setting
TCP_CORK on the socket would take two more system calls.)
"""

from __future__ import annotations

import asyncio
from typing import Any

Data = bytes | bytearray | memoryview


class CorkedTransport(asyncio.Transport):
    """A transport that buffers writes until the next turn of the event loop."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._written: list[Data] = []

    def write(self, data: Data) -> None:
        """Write, with whatever else is written before the loop's next turn."""
        if not self._written:
            self._loop.call_soon(self._flush)
        self._written.append(data)

    def close(self) -> None:
        """Close once all that was written has been sent."""
        self._flush()
        self._transport.close()

    def write_eof(self) -> None:
        """Say that nothing more is written; TLS cannot, and its `close` says so."""
        self._flush()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def abort(self) -> None:
        """Close at once."""
        self._written.clear()
        self._transport.abort()

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the connection."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Receive nothing until `resume_reading`."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Receive again."""
        self._transport.resume_reading()

    def _flush(self) -> None:
        written, self._written = self._written, []
        if written and not self._transport.is_closing():
            self._transport.write(written[0] if len(written) == 1 else b"".join(written))
