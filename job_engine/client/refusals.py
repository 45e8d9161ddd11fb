"""Errors for requests that the API refuses, or does not answer."""

from __future__ import annotations

import requests
from nuvla.api.api import NuvlaError

from job_engine.errors import ApiError, ApiUnavailableError


class RefusedError(ApiError, NuvlaError):  # type: ignore[misc]
    """The API refused a request.

    It is also a `NuvlaError`: `reason` is the server's message, `response` its answer.
    """

    def __init__(self, reason: str, response: requests.Response) -> None:
        super().__init__(reason)
        self.reason = reason
        self.response = response

    @property
    def status(self) -> int:
        """The answer's status code."""
        return int(self.response.status_code)

    @property
    def request_id(self) -> str | None:
        """The request's id, by which the operator finds it in the log."""
        return self.response.headers.get("X-Request-ID")


def unwelcome(error: ApiError) -> bool:
    """Return whether the API refuses the caller, not the request.

    Then the key was revoked, has expired, or lacks the role.
    """
    return isinstance(error, RefusedError) and error.status == 403


class UnansweredError(ApiUnavailableError, requests.ConnectionError):
    """The API gave no answer; it may have carried out the request nevertheless."""
