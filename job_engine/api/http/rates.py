"""Rate limits: a token bucket for each caller, in this process's memory.

Users are counted by identity, anonymous callers by address. Administrators and the engine's
own services are not counted, because the queue depends on their requests.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from job_engine.addresses import network_of
from job_engine.api.answers import error_response
from job_engine.api.errors import TooManyRequestsError
from job_engine.api.identity import DISTRIBUTOR, EXECUTOR, STRANGER, Identity
from job_engine.api.shortcut import AnswerError
from job_engine.errors import JobEngineError

_REMEMBERED: Final = 10_000
"""Callers that are remembered; the least recent ones are dropped, and start with a full bucket."""
_UNCOUNTED: Final = frozenset({"/api/health/live", "/api/health/ready"})
"""Paths of health probes, which are frequent and cheap, and not counted."""


class Buckets:
    """A bucket of `burst` tokens for each caller, refilled at `per_s` tokens a second.

    A bucket is stored as the time at which it will be full again. For the event loop's
    thread alone.
    """

    def __init__(
        self, per_s: float, burst: int, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval_s = 1 / per_s
        self._span_s = burst / per_s
        self._monotonic_s = monotonic_s
        self._full_at_s: OrderedDict[str, float] = OrderedDict()

    def take(self, caller: str) -> float:
        """Take a token and return 0, or return the seconds until there is one."""
        now_s = self._monotonic_s()
        full_at_s = max(now_s, self._full_at_s.get(caller, now_s)) + self._interval_s
        missing_s = full_at_s - now_s - self._span_s
        if missing_s > 1e-9:
            return missing_s
        self._full_at_s[caller] = full_at_s
        self._full_at_s.move_to_end(caller)
        if len(self._full_at_s) > _REMEMBERED:
            self._full_at_s.popitem(last=False)
        return 0.0


class RateLimits:
    """The buckets of logged-in and of anonymous callers; None: no limit."""

    def __init__(self, known: Buckets | None, strangers: Buckets | None) -> None:
        self._known = known
        self._strangers = strangers

    def take(self, who: Identity, address: str) -> float:
        """Count a request and return 0, or return the seconds until it is allowed."""
        if who.is_admin or EXECUTOR in who.claims or DISTRIBUTOR in who.claims:
            return 0.0
        if who.user_id is not None:
            return self._known.take(who.user_id) if self._known is not None else 0.0
        return self._strangers.take(network_of(address)) if self._strangers is not None else 0.0


def make_limits(
    per_s: float, burst: int, anonymous_per_s: float, anonymous_burst: int
) -> RateLimits:
    """Return the limits of the settings; a rate of 0 means no limit."""
    return RateLimits(
        Buckets(per_s, burst) if per_s else None,
        Buckets(anonymous_per_s, anonymous_burst) if anonymous_per_s else None,
    )


class Callers(Protocol):
    """Who sends a request, and the limits that hold for them."""

    @property
    def rates(self) -> RateLimits:
        """The limits."""

    async def recognise(self, request: HTTPConnection) -> Identity:
        """Return the caller, perhaps a second out of date."""

    def address_of(self, request: HTTPConnection) -> str:
        """Return the address that an anonymous caller is counted by."""


class RateLimitMiddleware:
    """Answers 429 to callers over their limit, before the body is read."""

    def __init__(
        self, app: ASGIApp, callers: Callable[[], Callers], answer_error: AnswerError
    ) -> None:
        """`answer_error` answers where it cannot be found out who sends a request."""
        self._app = app
        self._callers = callers
        self._answer_error = answer_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["path"] in _UNCOUNTED:
            await self._app(scope, receive, send)
            return
        callers, connection = self._callers(), HTTPConnection(scope)
        try:
            who = await callers.recognise(connection)
        except JobEngineError as error:  # the store does not answer
            response = await self._answer_error(Request(scope), error)
            await response(scope, receive, send)
            return
        setattr(connection.state, STRANGER, who.user_id is None)
        wait_s = callers.rates.take(who, callers.address_of(connection))
        if wait_s > 0:
            await error_response(TooManyRequestsError(wait_s))(scope, receive, send)
            return
        await self._app(scope, receive, send)
