"""Writing responses: JSON, and errors in the form of docs/cimi.md §1."""

from __future__ import annotations

import json
import math
from typing import Any, Final

from starlette.responses import PlainTextResponse, Response

from job_engine.api.errors import (
    MalformedJsonError,
    MethodNotAllowedError,
    RequestError,
    body_of,
    status_of,
)
from job_engine.errors import JobEngineError

_to_json: Final = json.JSONEncoder(separators=(",", ":")).encode


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a JSON response; non-ASCII characters are escaped, as CIMI's servers do."""
    return Response(
        _to_json(body),
        status,
        headers,
        media_type="application/json",
    )


def error_response(
    error: JobEngineError, resource_id: str | None = None, *, close: bool = False
) -> Response:
    """Return an error response; `close` ends the connection, if a body was not read to its end."""
    headers = {"Connection": "close"} if close else {}
    if isinstance(error, MethodNotAllowedError):
        headers["Allow"] = ", ".join(error.allowed)
    if isinstance(error, RequestError) and error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, MalformedJsonError):
        return PlainTextResponse(error.message, error.status, headers)
    return json_response(body_of(error, resource_id), status_of(error), headers)
