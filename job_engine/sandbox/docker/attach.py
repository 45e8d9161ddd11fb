"""A container's attached stream: framed standard output and error, and raw standard input.

Frame: https://docs.docker.com/reference/api/engine/ (attach: "Stream format"): a byte that
names the stream, three zero bytes, the length as four bytes, and that many bytes.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from typing import Any, Final

from job_engine.errors import SandboxError

STDOUT: Final = 1
STDERR: Final = 2

_HEADER: Final = struct.Struct(">BxxxL")
_READ_BYTES: Final = 64 * 2**10


class Demultiplexer:
    """Splits the framed stream into standard output and error."""

    def __init__(self) -> None:
        self._header = b""
        self._stream = 0
        self._left = 0

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Return (stream, bytes) for each part of a frame in `data`."""
        parts = []
        view = memoryview(data)
        while view:
            if not self._left:
                view = self._take_header(view)
                continue
            part = view[: self._left]
            parts.append((self._stream, bytes(part)))
            self._left -= len(part)
            view = view[len(part) :]
        return parts

    def _take_header(self, view: memoryview) -> memoryview:
        wanted = _HEADER.size - len(self._header)
        self._header += bytes(view[:wanted])
        if len(self._header) == _HEADER.size:
            self._stream, self._left = _HEADER.unpack(self._header)
            self._header = b""
            if self._stream not in (STDOUT, STDERR):
                raise SandboxError(f"Docker's attached stream is out of step: {self._stream}")
        return view[wanted:]


class AttachedStream:
    """The hijacked connection of one attach; close it, or a file descriptor leaks."""

    def __init__(self, raw: Any) -> None:
        # docker-py hands out the reader below http.client's buffer, and the response must
        # live as long as it does. The socket itself is needed to send, and to half-close.
        self._raw = raw
        self._socket: socket.socket = getattr(raw, "_sock", raw)
        self._socket.settimeout(None)
        self._demultiplexer = Demultiplexer()

    def fileno(self) -> int:
        """Return the descriptor, to wait for input on."""
        return self._socket.fileno()

    def set_timeout(self, seconds: float | None) -> None:
        """Let a `receive` or `send` that takes longer raise `TimeoutError`."""
        self._socket.settimeout(seconds)

    def silent(self) -> bool:
        """Whether nothing has arrived, not even the end."""
        # Not select(2), which knows the first 1,024 descriptors only.
        poll = select.poll()
        poll.register(self, select.POLLIN)
        return not poll.poll(0)

    def receive(self) -> list[tuple[int, bytes]] | None:
        """Return what has arrived, waiting for it if need be; None at the end."""
        data = self._socket.recv(_READ_BYTES)
        # TLS may hold decrypted bytes that no longer make the descriptor readable.
        while data and getattr(self._socket, "pending", int)():
            data += self._socket.recv(_READ_BYTES)
        return self._demultiplexer.feed(data) if data else None

    def send(self, data: bytes | memoryview) -> None:
        """Write to the container's standard input."""
        self._socket.sendall(data)

    def end_input(self) -> None:
        """Close the container's standard input."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End the connection, and wake a thread that waits in `receive`. Idempotent."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        response = getattr(self._raw, "_response", None)
        if response is not None:
            response.close()
        with contextlib.suppress(OSError):
            self._raw.close()
        self._socket.close()
