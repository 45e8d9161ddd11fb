"""Describing responses: their statuses and bodies."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from job_engine.api.openapi.schemas import STRING, Json, ref

ALWAYS: Final = (400, 403, 408, 414, 429, 431, 500, 503)
"""Error statuses that any request may get."""
WITH_BODY: Final = (413, 415)
"""Further error statuses of requests with a body."""

_MEANINGS: Final = {
    400: "The request will not do; `message` and `errors` say why. Malformed JSON is answered "
    "in plain text.",
    403: "You may not, or did not log in. (There is no 401.)",
    404: "There is no such resource, or no such operation.",
    405: "The resource does not know this method. Also: there is no such type.",
    408: "The request took too long to arrive.",
    409: "The resource is in a state that does not allow this.",
    412: "The resource has changed: `If-Match` names another version.",
    413: "The request is larger than this server accepts.",
    414: "The URL is too long: send a search by PUT, with its parameters as a form.",
    415: "The body's Content-Encoding is neither gzip nor none.",
    422: "`Idempotency-Key` was used for another request.",
    429: "Too many requests; `Retry-After` says when to come again.",
    431: "The request's headers are too long.",
    500: "A defect of the server; its log has more, under the request's id.",
    503: "Not now: the store is busy, or the server stops. `Retry-After` may say more.",
}
_ID_HEADER: Final[Json] = {
    "X-Request-ID": {
        "description": "The id of this request: the client's own, where it sent one.",
        "required": True,
        "schema": {"type": "string", "minLength": 1},
    }
}
_RETRY_HEADER: Final[Json] = {
    "Retry-After": {
        "description": "Seconds after which to try again.",
        "schema": {"type": "integer", "minimum": 1},
    }
}
_LOCATION_HEADER: Final[Json] = {
    "Location": {"description": "The id of what was created.", "schema": STRING}
}
_TAG_HEADER: Final[Json] = {
    "ETag": {"description": "The version that this is, for `If-Match`.", "schema": STRING}
}
_PLAIN: Final[Json] = {
    "text/plain": {"schema": {"type": "string", "pattern": r"^Malformed JSON in request body\."}}
}


Responses = dict[int | str, Json]
"""The argument `responses` of FastAPI's routes."""


def answer(status: int, schema: Json | None, media_type: str = "application/json") -> Json:
    """Describe one answer; without a schema it has no body."""
    headers = {**_ID_HEADER, **(_LOCATION_HEADER if status == 201 else {})}
    described: Json = {"description": HTTPStatus(status).phrase, "headers": headers}
    if schema is not None:
        described["content"] = {media_type: {"schema": schema}}
    return described


def document(name: str) -> Json:
    """Describe a response with a whole document of a type."""
    described = answer(200, ref(name))
    return {**described, "headers": {**described["headers"], **_TAG_HEADER}}


def errors(statuses: Iterable[int], *, body: bool) -> Json:
    """Describe the errors of an operation, including those of every operation."""
    every = sorted({*statuses, *ALWAYS, *(WITH_BODY if body else ())})
    return {str(status): _error(status, body=body) for status in every}


def also(*statuses: int) -> dict[int | str, Json]:
    """Return further errors of a FastAPI route, as its `responses`."""
    described = errors(statuses, body=False)
    return {status: described[str(status)] for status in statuses}


def _error(status: int, *, body: bool) -> Json:
    described = answer(status, ref("error"))
    described["description"] = _MEANINGS[status]
    if status in (429, 503):
        described["headers"] = {**_ID_HEADER, **_RETRY_HEADER}
    if status == 400 and body:
        described["content"] = {**described["content"], **_PLAIN}
    return described
