"""Reads the head of a proxy request, which is hostile input, within bounds."""

from __future__ import annotations

import re
import socket
import time
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

MAX_HEAD_BYTES: Final = 32 * 2**10
HEAD_DEADLINE_S: Final = 30.0
"""Longest that a head may take to arrive, however slowly its bytes drip."""

_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HOST: Final = re.compile(r"[A-Za-z0-9._:-]{1,255}")
_HOP_BY_HOP: Final = (b"host", b"connection", b"keep-alive", b"upgrade")


class BadRequestError(Exception):
    """The request cannot be read as one for a proxy; the message is for the client."""


@dataclass(frozen=True)
class Request:
    """Where the client wants to go, and the first bytes to send there."""

    host: str
    port: int
    tunnel: bool
    """CONNECT: the client speaks to the server itself."""
    forward: bytes


def read_request(client: socket.socket) -> Request:
    """Read one request head from the client's socket.

    Raises `BadRequestError` when it is malformed, too large or too slow, `OSError` when
    the connection breaks.
    """
    head, rest = _read_head(client)
    line, *fields = head.split(b"\r\n")
    parts = line.split(b" ")
    if len(parts) != 3 or not _TOKEN.fullmatch(parts[0]) or not parts[2].startswith(b"HTTP/1."):
        raise BadRequestError("not an HTTP/1 request line")
    method, target = parts[0], parts[1].decode("latin-1")
    if method == b"CONNECT":
        host, port = _authority(f"//{target}", None)
        return Request(host, port, tunnel=True, forward=rest)
    if not target.lower().startswith("http://"):
        raise BadRequestError("a proxy needs an absolute http:// URI, or CONNECT")
    host, port = _authority(target, 80)
    return Request(host, port, tunnel=False, forward=_origin_form(method, target, fields) + rest)


def _read_head(client: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    deadline = time.monotonic() + HEAD_DEADLINE_S
    while b"\r\n\r\n" not in data:
        if len(data) > MAX_HEAD_BYTES or time.monotonic() > deadline:
            raise BadRequestError("the request head is too large or too slow")
        chunk = client.recv(4096)
        if not chunk:
            raise ConnectionError("closed before the end of the head")
        data += chunk
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def _authority(uri: str, default_port: int | None) -> tuple[str, int]:
    try:
        split = urlsplit(uri)
        host, port = split.hostname or "", split.port or default_port
    except ValueError as error:
        raise BadRequestError("a malformed host or port") from error
    if not port or not _HOST.fullmatch(host):
        raise BadRequestError("a malformed host or port")
    return host, port


def _origin_form(method: bytes, uri: str, fields: list[bytes]) -> bytes:
    """Rewrite for the server: its path, its own Host, one request a connection."""
    split = urlsplit(uri)
    path = (split.path or "/") + (f"?{split.query}" if split.query else "")
    lines = [method + b" " + path.encode("latin-1") + b" HTTP/1.1"]
    lines.append(b"Host: " + split.netloc.rpartition("@")[2].encode("latin-1"))
    for field in fields:
        name = field.partition(b":")[0]
        if not _TOKEN.fullmatch(name):
            raise BadRequestError("a malformed header")
        if name.lower() not in _HOP_BY_HOP and not name.lower().startswith(b"proxy-"):
            lines.append(field)
    return b"\r\n".join([*lines, b"Connection: close", b"", b""])
