"""Sessions: rows that cookies refer to. Deleting a row ends its session with the next request.

Every request reads the row, except that it is cached for a moment where no other process
shares the store; then everything that ends a session calls `Sessions.changed`. The
transaction that creates a session checks what it depends on (a user, a key, a membership),
and the transaction that removes one of those ends the session, so neither can miss the other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection

from job_engine.api.identity import ANONYMOUS, Identity, of_session
from job_engine.errors import NotFoundError
from job_engine.model.acl import normalise
from job_engine.model.timestamps import format_ms
from job_engine.store.audit import Also, nothing
from job_engine.store.base import Document
from job_engine.store.resources import Resource
from job_engine.store.store import Store

CACHE_S: Final = 1.0
"""Seconds for which a session is cached."""
_CACHE_SIZE: Final = 10_000


@dataclass(frozen=True)
class Grounds:
    """What a session depends on (a user or key), and the claims that it grants."""

    user: str
    """The identity: a user's id, or the identity of a key."""
    claims: Sequence[str]
    method: str
    ends_ms: int | None = None
    """Latest end in epoch milliseconds, beside the lifetime of sessions."""
    details: dict[str, Any] = field(default_factory=dict)
    """Further attributes of the session's document."""


class Sessions:
    """Creates sessions and looks them up."""

    def __init__(
        self,
        store: Store,
        lifetime_s: float,
        cache_s: float = CACHE_S,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`cache_s` has to be 0 where other processes end sessions too."""
        self._store = store
        self._lifetime_ms = round(lifetime_s * 1000)
        self._cache_s = cache_s
        self._monotonic_s = monotonic_s
        self._cache: dict[str, tuple[float, Identity]] = {}
        self._generation = 0
        self._lock = threading.Lock()

    def create(
        self,
        session_id: str,
        establish: Callable[[Connection], Grounds],
        also: Also = nothing,
    ) -> Document:
        """Store a session; `establish` returns its grounds in the same transaction.

        The session expires after its lifetime, or with the key that it was opened with.
        Raises what `establish` raises to refuse a login.
        """
        self._store.resources.forget_expired()

        def unit(connection: Connection) -> Resource:
            also(connection)
            return self._resource(session_id, establish(connection))

        return self._store.resources.add_made(unit)

    def _resource(self, session_id: str, grounds: Grounds) -> Resource:
        expires_ms = self._store.clock() + self._lifetime_ms
        if grounds.ends_ms is not None:
            expires_ms = min(expires_ms, grounds.ends_ms)
        document = {
            "id": session_id,
            "method": grounds.method,
            "template": {"href": f"session-template/{grounds.method}"},
            "user": grounds.user,
            "active-claim": grounds.user,
            "roles": roles(session_id, grounds.claims),
            "expiry": format_ms(expires_ms),
            "acl": normalise({"owners": [session_id]}),
            **grounds.details,
        }
        return Resource(document, expires_ms=expires_ms)

    def identity(self, session_id: str) -> Identity:
        """Return the identity of a session; anonymous if it is gone or expired."""
        cached = self.cached(session_id)
        if cached is not None:
            return cached
        generation, now_s = self._generation, self._monotonic_s()
        identity = self._look_up(session_id)
        if identity is not ANONYMOUS:
            with self._lock:
                # A session that was read before `changed` was called may have ended.
                if generation == self._generation:
                    if len(self._cache) >= _CACHE_SIZE:
                        self._cache.clear()
                    self._cache[session_id] = (now_s, identity)
        return identity

    def cached(self, session_id: str) -> Identity | None:
        """Return the identity of a session if it is cached, else None; never waits."""
        return self._looked_up(session_id, self._cache_s)

    def recent(self, session_id: str) -> Identity | None:
        """Return the identity that a session had within the last second, else None.

        The session may have ended since: use it to count requests, and for nothing else.
        """
        return self._looked_up(session_id, CACHE_S)

    def _looked_up(self, session_id: str, within_s: float) -> Identity | None:
        found = self._cache.get(session_id)
        return found[1] if found is not None and self._monotonic_s() < found[0] + within_s else None

    def changed(self) -> None:
        """Drop the cache; to be called once the change of a session is stored."""
        with self._lock:
            self._generation += 1
            self._cache.clear()

    def _look_up(self, session_id: str) -> Identity:
        try:
            session = self._store.resources.load(session_id)
        except NotFoundError:
            return ANONYMOUS
        if session.expires_ms is not None and session.expires_ms <= self._store.clock():
            return ANONYMOUS
        document = session.document
        return of_session(
            document["user"], document["active-claim"], document["roles"].split(), session_id
        )


def roles(session_id: str, claims: Sequence[str]) -> str:
    """Return the claims as a session's document lists them, separated by blanks."""
    return " ".join(sorted({*claims, session_id}))
