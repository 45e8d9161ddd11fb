"""Signatures, by which a receiver verifies the sender and the time of a message."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Final

PREFIX: Final = "whsec_"
"""Prefix of secrets, by which they are recognised."""
_SECRET_BYTES: Final = 32


def new_secret() -> str:
    """Return a new secret: the prefix, and 32 random bytes in base64."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def signed_headers(secret: str, message_id: str, timestamp_s: int, body: str) -> dict[str, str]:
    """Return the headers of a message: its id, its time in epoch seconds, its signature.

    The id is the same whenever a message is sent again; time and signature are not.
    """
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": sign(secret, message_id, timestamp_s, body),
    }


def sign(secret: str, message_id: str, timestamp_s: int, body: str) -> str:
    """Return `v1,` and the HMAC-SHA256 of id, time and body, in base64."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signed = f"{message_id}.{timestamp_s}.{body}".encode()
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
