"""Messages between executor, zygote and holders: one packet each, with file descriptors."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

MAX_PACKET_BYTES: Final = 192 * 2**10
"""Below the kernel's default send buffer, which bounds a packet."""
CHUNK_BYTES: Final = 64 * 2**10
_MAX_FDS: Final = 32


@dataclass(frozen=True)
class Message:
    """A JSON head, a raw body, and the descriptors that came along."""

    head: dict[str, Any]
    body: bytes = b""
    fds: list[int] = field(default_factory=list)


class Channel:
    """One end of a pair of sequenced-packet sockets."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    @staticmethod
    def pair() -> tuple[Channel, Channel]:
        """Return two connected ends; neither survives an exec unless told to."""
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return Channel(one), Channel(other)

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self.sock.fileno()

    def send(self, head: dict[str, Any], body: bytes = b"", fds: Sequence[int] = ()) -> None:
        """Send one packet. Raises `OSError` when the other end is gone."""
        packet = json.dumps(head).encode() + b"\n" + body
        socket.send_fds(self.sock, [packet], list(fds))

    def receive(self) -> Message | None:
        """Return the next message, or None when the other end is gone.

        Raises `TimeoutError` after the socket's timeout.
        """
        try:
            packet, fds, _, _ = socket.recv_fds(self.sock, MAX_PACKET_BYTES + 4096, _MAX_FDS)
        except ConnectionError:
            return None
        if not packet:
            return None
        for fd in fds:
            os.set_inheritable(fd, False)
        head, _, body = packet.partition(b"\n")
        return Message(json.loads(head), body, list(fds))

    def close(self) -> None:
        """Close this end."""
        self.sock.close()
