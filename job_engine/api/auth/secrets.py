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
"""Characters of API keys, without those that look alike (docs/cimi.md §4.5)."""
_GROUPS, _GROUP = 5, 6
_REMEMBERED: Final = 4096
"""Session tokens whose signatures are remembered as valid."""
_MAX_TOKEN: Final = 512
"""Longest token of a session, in characters."""


class Hasher:
    """Hashes secrets by argon2id, a few at a time: each takes a core and up to 64 MiB.

    Waiting callers hold threads, so their number is limited; more are refused. To be called
    from threads; argon2 releases the interpreter lock while it computes.
    """

    def __init__(self, hasher: PasswordHasher, *, at_once: int, waiting: int) -> None:
        self._hasher = hasher
        self._limit = ConcurrencyLimit(at_once, waiting, _too_many)
        # Verified where no hash is stored, so that the time taken does not reveal that.
        self._nobodys = self._hasher.hash(secrets.token_hex())

    def hash(self, secret: str) -> str:
        """Return what to store for a secret. Raises `TooManyLoginsError` when busy."""
        with self._limit.admit():
            return self._hasher.hash(secret)

    def verify(self, stored: str | None, secret: str) -> bool:
        """Return whether `secret` matches the hash; `stored` is None for an unknown account.

        Raises `TooManyLoginsError` when too many others wait.
        """
        with self._limit.admit():
            try:
                self._hasher.verify(stored or self._nobodys, secret)
            except (VerificationError, InvalidHashError):
                return False
        return stored is not None


def passwords() -> Hasher:
    """Return the hasher for passwords, with the parameters that RFC 9106 recommends."""
    return Hasher(PasswordHasher(), at_once=2, waiting=16)


class Keys:
    """The secrets of API keys.

    They are 174 random bits, too many to guess, so one cheap pass over 8 MiB is enough. It
    takes milliseconds, which matters when a fleet of executors starts at once.
    """

    def __init__(self) -> None:
        cheap = PasswordHasher(time_cost=1, memory_cost=8 * 1024, parallelism=1)
        self._hasher = Hasher(cheap, at_once=2, waiting=64)

    def hash(self, secret: str) -> str:
        """Return what to store for a secret. Raises `TooManyLoginsError` when busy."""
        return self._hasher.hash(_bare(secret))

    def verify(self, stored: str | None, secret: str) -> bool:
        """Return whether `secret` matches the hash; its dots may be missing."""
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
    """Verify a key whose hash is SHA-256, as releases before argon2 stored it."""
    salt, _, digest = stored.partition("$")
    found = hashlib.sha256(f"{salt}{_bare(secret)}".encode()).hexdigest()
    return hmac.compare_digest(digest, found)


class ClaimTokens:
    """Signed tokens for one claim of one job; the store knows whether the claim still holds."""

    def __init__(self, key: str) -> None:
        self._serializer = URLSafeSerializer(key, salt="claim")

    def issue(self, job: str, fence: Fence, executor: str) -> str:
        """Return a token for an executor's claim."""
        return str(self._serializer.dumps([job, *fence, executor]))

    def read(self, token: str) -> tuple[str, Fence, str] | None:
        """Return job, fence and executor of a token; None if its signature is wrong."""
        try:
            job, incarnation, czxid, executor = self._serializer.loads(token)
        except (BadSignature, TypeError, ValueError):
            return None
        return str(job), Fence(incarnation, czxid), str(executor)


class Tokens:
    """Signed values of session cookies; each holds the id of a session."""

    def __init__(self, key: str) -> None:
        self._serializer = URLSafeSerializer(key, salt="session")
        # Cached: checking a signature takes a tenth of the time of a small request.
        self._remembered = lru_cache(_REMEMBERED)(self._verified)

    def issue(self, session_id: str) -> str:
        """Return the cookie value of a session."""
        return str(self._serializer.dumps(session_id))

    def read(self, token: str) -> str | None:
        """Return the session id in a cookie value; None if its signature is wrong."""
        # Longer ones are not ours, and caching them could fill the memory.
        return self._remembered(token) if len(token) <= _MAX_TOKEN else None

    def _verified(self, token: str) -> str | None:
        try:
            session: Any = self._serializer.loads(token)
        except BadSignature:
            return None
        return session if isinstance(session, str) else None
