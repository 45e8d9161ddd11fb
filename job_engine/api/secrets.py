"""Passwords, API keys and session tokens."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Any, Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from itsdangerous import BadSignature, URLSafeSerializer

from job_engine.api.errors import TooManyLoginsError
from job_engine.api.turns import Turns
from job_engine.model import Fence

KEY_ALPHABET: Final = "23456789abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ"
"""Characters of API keys: none that are mistaken for one another."""
_GROUPS, _GROUP = 5, 6

_ARGON2_AT_ONCE: Final = 2
_ARGON2_WAITING: Final = 16
"""Logins that may wait for their turn; more are refused, or they would take every thread."""


class Passwords:
    """argon2id; few at a time, since each takes 64 MiB and a core."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._turns = Turns(_ARGON2_AT_ONCE, _ARGON2_WAITING, _too_many)
        # Verified for unknown users too, so that the time it takes tells nothing.
        self._nobody = self._hasher.hash(secrets.token_hex())

    def hash(self, password: str) -> str:
        """Return what to store for a password. Raises `TooManyLoginsError` when busy."""
        with self._turns.turn():
            return self._hasher.hash(password)

    def verify(self, stored: str | None, password: str) -> bool:
        """Say whether this is the password; `stored` is None for an unknown user.

        Raises `TooManyLoginsError` when too many others wait.
        """
        with self._turns.turn():
            try:
                self._hasher.verify(stored or self._nobody, password)
            except (VerifyMismatchError, InvalidHashError):
                return False
        return stored is not None


def _too_many() -> TooManyLoginsError:
    return TooManyLoginsError("Too many logins at once; try again in a moment.")


def generate_key() -> str:
    """Return a new API key: 30 characters, 174 bits, in five groups."""
    groups = ("".join(secrets.choice(KEY_ALPHABET) for _ in range(_GROUP)) for _ in range(_GROUPS))
    return ".".join(groups)


def digest_key(key: str) -> str:
    """Return what to store for an API key; a fast hash will do for 174 random bits."""
    salt = secrets.token_hex(16)
    return f"{salt}${_digest(salt, key)}"


def verify_key(stored: str | None, key: str) -> bool:
    """Say whether this is the key; its dots may be missing."""
    salt, _, digest = (stored or "$").partition("$")
    return hmac.compare_digest(digest, _digest(salt, key))


def _digest(salt: str, key: str) -> str:
    bare = "".join(c for c in key if c in KEY_ALPHABET)
    return hashlib.sha256(f"{salt}{bare}".encode()).hexdigest()


class ClaimTokens:
    """Signed values that speak for one claim of one job; whether it still runs is not theirs."""

    def __init__(self, key: str) -> None:
        self._serializer = URLSafeSerializer(key, salt="claim")

    def issue(self, job: str, fence: Fence) -> str:
        """Return the token of a claim."""
        return str(self._serializer.dumps([job, *fence]))

    def read(self, token: str) -> tuple[str, Fence] | None:
        """Return the job and the fence; None for a token that we did not issue."""
        try:
            job, incarnation, czxid = self._serializer.loads(token)
        except (BadSignature, TypeError, ValueError):
            return None
        return str(job), Fence(incarnation, czxid)


class Tokens:
    """The signed values of session cookies: they name a session row, nothing more."""

    def __init__(self, key: str) -> None:
        self._serializer = URLSafeSerializer(key, salt="session")

    def issue(self, session_id: str) -> str:
        """Return the cookie value of a session."""
        return str(self._serializer.dumps(session_id))

    def read(self, token: str) -> str | None:
        """Return the session that a cookie value names; None for one that we did not issue."""
        try:
            session: Any = self._serializer.loads(token)
        except BadSignature:
            return None
        return session if isinstance(session, str) else None
