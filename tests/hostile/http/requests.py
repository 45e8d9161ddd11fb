"""Writing requests as bytes for a socket, valid or not."""

from __future__ import annotations

from random import Random
from typing import Any, Final

from tests.unit.api.support import LMS

MAX_BODY: Final = 100_000
"""What the server is told to accept at most, in bytes."""
VALID: Final = {
    "action": "noop",
    "priority": 7,
    "tags": ["a", "b"],
    "payload": '{"seconds": 1}',
    "target-resource": {"href": "deployment/x"},
}
PATHS: Final = ("/api/job", "/api/session", "/api/credential", "/api/engine/claim", "/api/user")


def request(
    method: str,
    target: str,
    body: bytes = b"",
    *lines: str,
    who: str = LMS,
    media_type: str = "application/json",
    length: str | None = None,
) -> bytes:
    """Write a request; `lines` are further headers, as they stand."""
    head = [f"{method} {target} HTTP/1.1", "Host: here", "Connection: close", *lines]
    if who:
        head.append(f"nuvla-authn-info: {who}")
    if media_type:
        head.append(f"Content-Type: {media_type}")
    if length is None and body and not any("Transfer-Encoding" in line for line in lines):
        length = str(len(body))
    if length is not None:
        head.append(f"Content-Length: {length}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def post(body: bytes, *lines: str, **more: Any) -> bytes:
    return request("POST", "/api/job", body, *lines, **more)


def text(random: Random, length: int) -> str:
    return "".join(
        chr(random.choice((random.randrange(32, 127), random.randrange(160, 0xD7FF))))
        for _ in range(length)
    )
