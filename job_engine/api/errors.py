"""Errors of requests, and what HTTP status each error of the engine answers with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from job_engine.errors import (
    ConflictError,
    ForbiddenError,
    InvalidFilterError,
    InvalidResourceError,
    JobEngineError,
    NotFoundError,
    StoreError,
)
from job_engine.store.jobs.idempotency import KeyReusedError

CREDENTIALS_REQUIRED: Final = "credentials required"


class RequestError(JobEngineError):
    """The request cannot be served."""

    status = 400
    retry_after_s: float | None = None
    """Seconds after which the client may try again; None: a retry would not help."""

    def __init__(self, message: str | None = None, resource_id: str | None = None) -> None:
        super().__init__(message)
        self.resource_id = resource_id


class ProblemsError(InvalidResourceError):
    """The resource does not satisfy its schema."""

    def __init__(self, message: str, problems: Sequence[str]) -> None:
        super().__init__("\n".join([message, *problems]))
        self.problems = problems
        """Lines `<path of the attribute>: <what was expected>`."""


class MalformedJsonError(RequestError):
    """Malformed JSON in request body."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(f"{MalformedJsonError.__doc__} {reason}".strip())


class MethodNotAllowedError(RequestError):
    """The resource does not know this method."""

    status = 405

    def __init__(self, method: str, path: str, allowed: Sequence[str] = ()) -> None:
        super().__init__(f"invalid method ({method.lower()}) for {path}", path)
        self.allowed = allowed
        """Supported methods, for the `Allow` header (RFC 9110 §15.5.6)."""


class UnknownActionError(RequestError):
    """The resource has no such operation."""

    status = 404


class UnknownRouteError(RequestError):
    """unknown resource"""

    status = 404


class RequestForbiddenError(RequestError, ForbiddenError):
    """credentials required"""

    status = 403


class PreconditionFailedError(RequestError):
    """The resource is no longer what `If-Match` names; read it again, then decide anew."""

    status = 412


class TooLargeError(RequestError):
    """The request is larger than this server accepts."""

    status = 413


class TooManyLoginsError(RequestError):
    """Too many failed logins; wait a minute and try again."""

    status = 429

    def __init__(self, message: str | None = None, *, retry_after_s: float = 60.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TooManyRequestsError(RequestError):
    """Too many requests."""

    status = 429

    def __init__(self, retry_after_s: float) -> None:
        seconds = max(1, math.ceil(retry_after_s))
        super().__init__(f"too many requests; try again in {seconds} s")
        self.retry_after_s = retry_after_s


class TooManySearchesError(RequestError):
    """Too many searches at once; try again in a moment."""

    status = 503
    retry_after_s = 1.0


class StoppingError(RequestError):
    """The server is stopping; try again in a moment."""

    status = 503
    retry_after_s = 1.0


class UnexpectedError(RequestError):
    """Unexpected exception thrown."""

    status = 500

    def __init__(self, error: Exception) -> None:
        # Without its message, which may contain other users' data; that is in the log.
        super().__init__(
            f"Unexpected exception thrown: {type(error).__name__}; the server's log has more"
        )


class QueryError(RequestError):
    """The store cannot answer the query."""


STATUS: Final[dict[type[JobEngineError], int]] = {
    NotFoundError: 404,
    ConflictError: 409,
    KeyReusedError: 422,
    InvalidResourceError: 400,
    InvalidFilterError: 400,
    ForbiddenError: 403,
    StoreError: 503,
    JobEngineError: 500,
}


def status_of(error: JobEngineError) -> int:
    """Return the HTTP status of an error: its own, or that of its nearest ancestor."""
    if isinstance(error, RequestError):
        return error.status
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def body_of(error: JobEngineError, resource_id: str | None) -> dict[str, Any]:
    """Return the status map of an error."""
    body: dict[str, Any] = {"status": status_of(error), "message": error.message}
    named = error.resource_id if isinstance(error, RequestError) else resource_id
    if named:
        body["resource-id"] = named
    if isinstance(error, ProblemsError):
        split = [problem.partition(": ") for problem in error.problems]
        body["errors"] = [{"attribute": where, "message": text} for where, _, text in split]
    return body
