"""Sessions: rows that cookies name, looked up on every request.

A row that is gone ends its session at once, in every process within `CACHE_S`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from job_engine.api.identity import ANONYMOUS, Identity, of_session
from job_engine.errors import NotFoundError
from job_engine.model.acl import normalise
from job_engine.model.timestamps import format_ms
from job_engine.store.base import Document
from job_engine.store.resources import Resource
from job_engine.store.store import Store
from job_engine.store.tables import resources

CACHE_S: Final = 1.0
"""Longest that a session which another process ended goes on here, in seconds."""
_CACHE_SIZE: Final = 10_000


class Sessions:
    """Makes, finds and ends sessions."""

    def __init__(
        self,
        store: Store,
        lifetime_s: float,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._lifetime_ms = round(lifetime_s * 1000)
        self._monotonic_s = monotonic_s
        self._cache: dict[str, tuple[float, Identity]] = {}
        self._lock = threading.Lock()

    def create(
        self,
        session_id: str,
        *,
        user_id: str,
        claims: Sequence[str],
        method: str,
        details: dict[str, Any],
        ends_ms: int | None = None,
    ) -> Document:
        """Store a session; `details` are further attributes of its document.

        It ends at `ends_ms` at the latest: when what it was opened with expires.
        """
        expires_ms = self._store.clock() + self._lifetime_ms
        if ends_ms is not None:
            expires_ms = min(expires_ms, ends_ms)
        roles = sorted({*claims, session_id})
        document = {
            "id": session_id,
            "method": method,
            "template": {"href": f"session-template/{method}"},
            "user": user_id,
            "active-claim": user_id,
            "roles": " ".join(roles),
            "expiry": format_ms(expires_ms),
            "acl": normalise({"owners": [session_id]}),
            **details,
        }
        self._store.resources.forget_expired()
        return self._store.resources.add(Resource(document, expires_ms=expires_ms))

    def identity(self, session_id: str) -> Identity:
        """Return who a session stands for; anonymous where it is gone or expired."""
        now_s = self._monotonic_s()
        cached = self.cached(session_id)
        if cached is not None:
            return cached
        identity = self._look_up(session_id)
        if identity is not ANONYMOUS:
            with self._lock:
                if len(self._cache) >= _CACHE_SIZE:
                    self._cache.clear()
                self._cache[session_id] = (now_s + CACHE_S, identity)
        return identity

    def cached(self, session_id: str) -> Identity | None:
        """Return who a session stands for where that was just looked up; never waits."""
        found = self._cache.get(session_id)
        return found[1] if found is not None and self._monotonic_s() < found[0] else None

    def end(self, session_id: str) -> None:
        """Forget a session that was deleted."""
        with self._lock:
            self._cache.pop(session_id, None)

    def end_where(self, attribute: str, value: str) -> None:
        """End the sessions whose document has this attribute, such as a user's."""
        condition = (resources.c.type == "session") & (
            resources.c.document[attribute].as_string() == value
        )
        for session_id in self._store.resources.delete_where(condition):
            self.end(session_id)

    def revoke_keys(self, identity: str, roles: Collection[str] | None = None) -> None:
        """Delete the API keys that log in as `identity`: all, or those with one of `roles`."""
        condition = (resources.c.type == "credential") & (
            resources.c.document[("claims", "identity")].as_string() == identity
        )
        if roles is not None:
            found = self._store.resources.where(condition)
            keys = [k.id for k in found if not set(roles).isdisjoint(k.document["claims"]["roles"])]
            condition = resources.c.id.in_(keys)
        self._store.resources.delete_where(condition)

    def _look_up(self, session_id: str) -> Identity:
        try:
            session = self._store.resources.load(session_id)
        except NotFoundError:
            return ANONYMOUS
        if session.expires_ms is not None and session.expires_ms <= self._store.clock():
            return ANONYMOUS
        document = session.document
        return of_session(document["user"], document["roles"].split(), session_id)
