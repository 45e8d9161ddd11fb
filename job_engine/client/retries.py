"""Retrying requests: which ones, after how long, and the error in the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeVar

import requests
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    stop_when_event_set,
    wait_random_exponential,
)
from tenacity.nap import sleep_using_event
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from job_engine.client.refusals import RefusedError
from job_engine.errors import ApiUnavailableError

TRANSIENT: Final = frozenset({429, 500, 502, 503, 504})
"""Status codes after which the same request may succeed."""
PUT_OFF: Final = 429
"""The one of them that means that nothing was done."""
IDEMPOTENCY_KEY: Final = "Idempotency-Key"
_LONGEST_PUT_OFF_S: Final = 60.0

T = TypeVar("T")


class TransientError(Exception):
    """A failed request that may be repeated, with its response if there was one."""

    def __init__(
        self, why: str, response: requests.Response | None = None, reason: str | None = None
    ) -> None:
        super().__init__(why)
        self.response = response
        self.reason = reason

    @property
    def retry_after_s(self) -> float:
        """Seconds that the API asked to wait."""
        value = self.response.headers.get("Retry-After", "") if self.response is not None else ""
        return min(float(value), _LONGEST_PUT_OFF_S) if value.isdecimal() else 0.0


def retry(
    attempt: Callable[[], T],
    retry_s: float,
    closing: threading.Event,
    unanswered: Callable[[str], ApiUnavailableError],
) -> T:
    """Call `attempt`, and repeat it for up to `retry_s` while it raises `TransientError`.

    Raises `RefusedError` if the last attempt had a response, else the error that `unanswered`
    makes from a message. `closing` ends the waiting.
    """
    retrying = Retrying(
        retry=retry_if_exception_type(TransientError),
        stop=stop_after_delay(retry_s) | stop_when_event_set(closing),
        wait=_wait,
        sleep=sleep_using_event(closing),
        retry_error_callback=partial(_give_up, unanswered),
    )
    return retrying(attempt)


def is_repeatable(method: str, uri: str, headers: Mapping[str, str]) -> bool:
    """Return whether a request may be carried out twice.

    Reads, searches (a PUT of a collection) and deletes of one resource may; a create may with
    an idempotency key. Edits may not: they could overwrite another edit in between.
    """
    if method == "GET" or (method == "PUT" and "/" not in uri):
        return True
    if method == "DELETE":
        return "/" in uri
    return method == "POST" and IDEMPOTENCY_KEY in headers


def never_sent(error: requests.RequestException) -> bool:
    """Return whether a request failed before a connection was made."""
    return isinstance(error, requests.ConnectTimeout) or isinstance(
        _inside(error), NewConnectionError | ConnectTimeoutError
    )


def reason_of(error: BaseException) -> str:
    """Return why no answer came, such as `Connection refused`, without the libraries' wrappers."""
    wrapped: BaseException | None = error
    while wrapped is not None:
        if isinstance(wrapped, OSError) and wrapped.strerror:
            return wrapped.strerror
        # requests has the cause as an argument, urllib3 as `reason`.
        inner = _inside(wrapped)
        wrapped = inner if inner is not wrapped else wrapped.__cause__
    return str(error)


def _inside(error: BaseException) -> BaseException:
    """Return the cause inside an error of requests or urllib3, or the error itself."""
    first = error.args[0] if error.args else None
    inner = getattr(first, "reason", first)
    return inner if isinstance(inner, BaseException) else error


_backoff: Final = wait_random_exponential(multiplier=0.05, max=2.0)


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked_s = error.retry_after_s if isinstance(error, TransientError) else 0.0
    return max(_backoff(state), asked_s)


def _give_up(unanswered: Callable[[str], ApiUnavailableError], state: RetryCallState) -> Any:
    cause = state.outcome.exception() if state.outcome else None
    if isinstance(cause, TransientError) and cause.reason and cause.response is not None:
        raise RefusedError(cause.reason, cause.response) from cause
    raise unanswered(str(cause)) from cause
