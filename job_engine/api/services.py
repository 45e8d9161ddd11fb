"""What all requests share: the store, sessions, limits and threads."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from itertools import islice
from typing import Final, cast

from anyio import CapacityLimiter
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from job_engine.api.auth.limiter import LoginLimiter
from job_engine.api.auth.secrets import ClaimTokens, Hasher, Keys, Tokens, passwords
from job_engine.api.auth.sessions import CACHE_S, Sessions
from job_engine.api.concurrency.limit import ConcurrencyLimit
from job_engine.api.concurrency.streams import Streams
from job_engine.api.concurrency.threads import Threads
from job_engine.api.errors import TooManySearchesError
from job_engine.api.http.rates import RateLimits, make_limits
from job_engine.api.identity import ANONYMOUS, AUTHN_HEADER, Identity, Peers, from_header
from job_engine.api.metrics import Metrics
from job_engine.api.readiness import Readiness
from job_engine.settings import ApiSettings
from job_engine.store.blob_files import BlobFiles
from job_engine.store.store import Store

SEARCHES_AT_ONCE: Final = 4
"""Searches at once: half of the store's reading connections. The others serve claims, events
and single documents."""
SEARCHES_EACH: Final = 2
"""Searches at once of one caller, so that slow searches do not keep others waiting."""
SEARCHES_WAITING: Final = 32
"""Searches that wait for their turn; further ones are refused."""
STRANGERS_AT_ONCE: Final = 24
"""Requests without a login that have a thread at once; others wait."""
_MAX_COOKIES: Final = 4
"""Cookies of our name that are looked at: each costs the event loop a signature."""
COOKIE: Final = "com.com.sixsq.nuvla.cookie"
"""The cookie's name, which really has `com.` twice (docs/cimi.md §4.1)."""


@dataclass(frozen=True)
class Services:
    """Made once, by `make_services`; every request uses the same one."""

    settings: ApiSettings
    store: Store
    sessions: Sessions
    tokens: Tokens
    claim_tokens: ClaimTokens
    passwords: Hasher
    keys: Keys
    trusted: Peers
    metrics_peers: Peers
    """Addresses that may read metrics without a login."""
    limiter: LoginLimiter
    rates: RateLimits
    blob_files: BlobFiles
    streams: Streams
    metrics: Metrics
    searches: ConcurrencyLimit
    readiness: Readiness
    threads: Threads
    """Threads that serve callers who have logged in."""
    strangers: CapacityLimiter
    """Threads that serve callers who have not logged in; checking a password also takes memory."""

    async def identify(self, request: HTTPConnection) -> Identity:
        """Return who sends a request: by a trusted peer's header first, then by the cookie.

        The answer is kept with the request.
        """
        who = self._known(request)
        return who if who is not None else await run_in_threadpool(self.identify_here, request)

    def identify_here(self, request: HTTPConnection) -> Identity:
        """Like `identify`, blocking; for a thread that may wait for the store."""
        who = self._known(request)
        if who is None:
            session = self._session(request)
            assert session is not None
            who = request.state.who = self.sessions.identity(session)
        return who

    async def recognise(self, request: HTTPConnection) -> Identity:
        """Return the caller, perhaps a second out of date: to count requests, not for access."""
        session = self._session(request)
        recent = None if session is None else self.sessions.recent(session)
        return recent if recent is not None else await self.identify(request)

    def address_of(self, request: HTTPConnection) -> str:
        """Return the client's address, which a trusted proxy names in `X-Forwarded-For`."""
        peer = request.client.host if request.client else ""
        # Only the last address is the proxy's; the client may have written those before it.
        forwarded = ",".join(request.headers.getlist("x-forwarded-for")).rpartition(",")[2].strip()
        return forwarded if forwarded and peer in self.trusted else peer

    def _known(self, request: HTTPConnection) -> Identity | None:
        """Return who sends a request if that is known without the store, else None."""
        known: Identity | None = getattr(request.state, "who", None)
        if known is None:
            header = request.headers.get(AUTHN_HEADER, "")
            peer = request.client.host if request.client else ""
            if header.strip() and peer in self.trusted:
                known = from_header(header)
            else:
                session = self._session(request)
                known = ANONYMOUS if session is None else self.sessions.cached(session)
            request.state.who = known
        return known

    def _session(self, request: HTTPConnection) -> str | None:
        """Return the session id in the cookie; None if there is none, or it is not signed by us."""
        unread = object()
        session = getattr(request.state, "session", unread)
        if session is unread:
            session = request.state.session = self._named(request)
        return cast(str | None, session)

    def _named(self, request: HTTPConnection) -> str | None:
        """Return the session of the first cookie that is ours.

        A browser sends several of one name where a parent domain has such a cookie too.
        """
        session = self.tokens.read(request.cookies.get(COOKIE, ""))
        if session is not None:
            return session
        given = ";".join(request.headers.getlist("cookie"))
        if given.count(f"{COOKIE}=") < 2:
            return None
        named = (cookie.strip().partition("=") for cookie in given.split(";"))
        values = islice((value for name, _, value in named if name == COOKIE), _MAX_COOKIES)
        read = (self.tokens.read(value) for value in values)
        return next((session for session in read if session is not None), None)


def make_services(settings: ApiSettings, store: Store) -> Services:
    """Make the services over a store that was started."""
    blob_files = BlobFiles(settings.blobs)
    blob_files.prepare()
    key = store.counters.secret("session-key", secrets.token_hex)
    streams = Streams()
    return Services(
        settings=settings,
        store=store,
        sessions=Sessions(store, settings.session_s, _session_cache_s(settings)),
        tokens=Tokens(key),
        claim_tokens=ClaimTokens(key),
        passwords=passwords(),
        keys=Keys(),
        trusted=Peers(settings.trusted_peers),
        metrics_peers=Peers(settings.metrics_peers, "metrics_peers"),
        limiter=LoginLimiter(),
        rates=make_limits(
            settings.rate_per_s,
            settings.rate_burst,
            settings.anonymous_rate_per_s,
            settings.anonymous_rate_burst,
        ),
        blob_files=blob_files,
        streams=streams,
        metrics=Metrics(store.backlogs, streams),
        searches=ConcurrencyLimit(
            SEARCHES_AT_ONCE, SEARCHES_WAITING, TooManySearchesError, SEARCHES_EACH
        ),
        readiness=Readiness(store.database),
        threads=Threads(),
        strangers=CapacityLimiter(STRANGERS_AT_ONCE),
    )


def _session_cache_s(settings: ApiSettings) -> float:
    """Return how long sessions are cached: SQLite has one API process, which sees every change."""
    return CACHE_S if settings.store_url.startswith("sqlite") else 0.0
