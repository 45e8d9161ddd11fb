"""Forwards TCP connections out of a container without network, over a pair of pipes.

One end runs in the holder's network namespace as a program of its own, with nothing but the
standard library: it listens where phases expect the egress proxy, and speaks on its standard
input and output. The other end is in the executor (`forwarding`). A frame has the connection's
number, the kind of the frame, a length, and that many bytes.
"""

import contextlib
import itertools
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable

READY, OPEN, DATA, END = range(4)
"""END is of one direction; a connection is over when both have ended."""

_HEADER = struct.Struct(">IBI")
_CHUNK_BYTES = 32 * 2**10
_MAX_FRAME_BYTES = 64 * 2**10
_MAX_CONNECTIONS = 64


class Multiplexer:
    """One end: sockets on the one side, a stream of frames on the other."""

    def __init__(
        self, write: Callable[[bytes], None], other: Callable[[int, int], None] | None = None
    ) -> None:
        self._write = write
        self._other = other
        self._write_lock = threading.Lock()
        self._lock = threading.Lock()
        self._sockets: dict[int, socket.socket] = {}
        self._half_over: set[int] = set()
        self._buffer = b""

    def send(self, number: int, kind: int, data: bytes = b"") -> None:
        """Write one frame, whole."""
        with self._write_lock:
            self._write(_HEADER.pack(number, kind, len(data)) + data)

    def add(self, number: int, sock: socket.socket) -> bool:
        """Forward a connection; return false if there are too many."""
        with self._lock:
            if len(self._sockets) >= _MAX_CONNECTIONS or number in self._sockets:
                return False
            self._sockets[number] = sock
        threading.Thread(target=self._pump, args=(number, sock), daemon=True).start()
        return True

    def feed(self, data: bytes) -> None:
        """Handle what came over the stream; what is not of a socket goes to `other`, in turn."""
        self._buffer += data
        while len(self._buffer) >= _HEADER.size:
            number, kind, length = _HEADER.unpack_from(self._buffer)
            if length > _MAX_FRAME_BYTES:
                raise ValueError("a frame too long: the stream is out of step")
            end = _HEADER.size + length
            if len(self._buffer) < end:
                break
            payload, self._buffer = self._buffer[_HEADER.size : end], self._buffer[end:]
            if kind in (DATA, END):
                self._deliver(number, payload)
            elif self._other is not None:
                self._other(number, kind)

    def close(self) -> None:
        """End every connection."""
        with self._lock:
            sockets = list(self._sockets.values())
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _deliver(self, number: int, payload: bytes) -> None:
        sock = self._sockets.get(number)
        if sock is None:
            return
        with contextlib.suppress(OSError):
            if payload:
                sock.sendall(payload)
                return
            sock.shutdown(socket.SHUT_WR)
        if not payload:
            self._over(number)

    def _pump(self, number: int, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := sock.recv(_CHUNK_BYTES):
                self.send(number, DATA, data)
        with contextlib.suppress(OSError):
            self.send(number, END)
        self._over(number)

    def _over(self, number: int) -> None:
        with self._lock:
            if number not in self._half_over:
                self._half_over.add(number)
                return
            self._half_over.discard(number)
            sock = self._sockets.pop(number, None)
        if sock is not None:
            sock.close()


def main(host: str, port: int) -> None:
    """Listen, and forward until standard input ends."""

    def write(data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    multiplexer = Multiplexer(write)
    listener = socket.create_server((host, port), backlog=_MAX_CONNECTIONS)

    def accept() -> None:
        for number in itertools.count(1):
            sock, _ = listener.accept()
            multiplexer.send(number, OPEN)
            if not multiplexer.add(number, sock):
                multiplexer.send(number, END)
                sock.close()

    threading.Thread(target=accept, daemon=True).start()
    multiplexer.send(0, READY)
    # Not through the buffered reader, which waits until it can return all that was asked for.
    while data := os.read(sys.stdin.fileno(), _CHUNK_BYTES):
        multiplexer.feed(data)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
