"""Passwords, API keys and session tokens."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from functools import lru_cache
from typing import Any, Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from itsdangerous import BadSignature, URLSafeSerializer

from job_engine.api.concurrency.limit import ConcurrencyLimit
from job_engine.api.errors import TooManyLoginsError
from job_engine.model import Fence

KEY_ALPHABET: Final = "23456789abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ"
"""Characters of API keys: none that are mistaken for one another."""
_GROUPS, _GROUP = 5, 6
_REMEMBERED: Final = 4096
"""Tokens of sessions whose signature need not be checked again."""
_MAX_TOKEN: Final = 512
"""Characters that a session's token has at most."""


class Hasher:
    """argon2id, few at a time: each takes a core, and a password 64 MiB besides.

    Whoever waits holds a thread, so only so many may; the others are told to come again.
    Nothing is hashed on the event loop, and argon2 lets other threads run meanwhile.
    """

    def __init__(self, hasher: PasswordHasher, *, at_once: int, waiting: int) -> None:
        self._hasher = hasher
        self._limit = ConcurrencyLimit(at_once, waiting, _too_many)
        # Verified where there is nothing to verify, so that the time it takes tells nothing.
        self._nobodys = self._hasher.hash(secrets.token_hex())

    def hash(self, secret: str) -> str:
        """Return what to store for a secret. Raises `TooManyLoginsError` when busy."""
        with self._limit.admit():
            return self._hasher.hash(secret)

    def verify(self, stored: str | None, secret: str) -> bool:
        """Say whether this is the secret; `stored` is None where there is none.

        Raises `TooManyLoginsError` when too many others wait.
        """
        with self._limit.admit():
            try:
                self._hasher.verify(stored or self._nobodys, secret)
            except (VerificationError, InvalidHashError):
                return False
        return stored is not None


def passwords() -> Hasher:
    """Return the hasher of what people make up: as dear as RFC 9106 advises."""
    return Hasher(PasswordHasher(), at_once=2, waiting=16)


class Keys:
    """The secrets of API keys.

    They are 174 random bits, which nobody guesses however cheap a guess is, so one pass
    over 8 MiB will do: some milliseconds, for a fleet of executors that starts at once.
    """

    def __init__(self) -> None:
        cheap = PasswordHasher(time_cost=1, memory_cost=8 * 1024, parallelism=1)
        self._hasher = Hasher(cheap, at_once=2, waiting=64)

    def hash(self, secret: str) -> str:
        """Return what to store for a secret. Raises `TooManyLoginsError` when busy."""
        return self._hasher.hash(_bare(secret))

    def verify(self, stored: str | None, secret: str) -> bool:
        """Say whether this is the secret; its dots may be missing."""
        if stored is not None and not stored.startswith("$argon2"):
            return _verify_sha256(stored, secret)
        return self._hasher.verify(stored, _bare(secret))


def _too_many() -> TooManyLoginsError:
    return TooManyLoginsError("Too many logins at once; try again in a moment.", retry_after_s=1)


def generate_key() -> str:
    """Return a new API key: 30 characters, 174 bits, in five groups."""
    groups = ("".join(secrets.choice(KEY_ALPHABET) for _ in range(_GROUP)) for _ in range(_GROUPS))
    return ".".join(groups)


def _bare(secret: str) -> str:
    return "".join(c for c in secret if c in KEY_ALPHABET)


def _verify_sha256(stored: str, secret: str) -> bool:
    """Do as `Keys.verify` for a key that was made before there was argon2 here."""
    salt, _, digest = stored.partition("$")
    found = hashlib.sha256(f"{salt}{_bare(secret)}".encode()).hexdigest()
    return hmac.compare_digest(digest, found)


class ClaimTokens:
    """Signed values that speak for one claim of one job; whether it still runs is not theirs."""

    def __init__(self, key: str) -> None:
        self._serializer = URLSafeSerializer(key, salt="claim")

    def issue(self, job: str, fence: Fence, executor: str) -> str:
        """Return the token of a claim of somebody's."""
        return str(self._serializer.dumps([job, *fence, executor]))

    def read(self, token: str) -> tuple[str, Fence, str] | None:
        """Return the job, the fence, and whose; None for a token that we did not issue."""
        try:
            job, incarnation, czxid, executor = self._serializer.loads(token)
        except (BadSignature, TypeError, ValueError):
            return None
        return str(job), Fence(incarnation, czxid), str(executor)


class Tokens:
    """The signed values of session cookies: they name a session row, nothing more."""

    def __init__(self, key: str) -> None:
        self._serializer = URLSafeSerializer(key, salt="session")
        # To check a signature again takes as long as a tenth of what comes after it.
        self._remembered = lru_cache(_REMEMBERED)(self._verified)

    def issue(self, session_id: str) -> str:
        """Return the cookie value of a session."""
        return str(self._serializer.dumps(session_id))

    def read(self, token: str) -> str | None:
        """Return the session that a cookie value names; None for one that we did not issue."""
        # A longer one is none of ours, and many of them would fill the memory.
        return self._remembered(token) if len(token) <= _MAX_TOKEN else None

    def _verified(self, token: str) -> str | None:
        try:
            session: Any = self._serializer.loads(token)
        except BadSignature:
            return None
        return session if isinstance(session, str) else None
