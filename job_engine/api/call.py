"""The `Call`: one parsed request, which is all that resource types see of HTTP."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from job_engine.api.errors import MalformedJsonError
from job_engine.api.http.nul import NulError
from job_engine.api.identity import ANONYMOUS, Identity
from job_engine.api.params import Params, parse_params
from job_engine.errors import InvalidResourceError
from job_engine.log import bound_field

if TYPE_CHECKING:
    from job_engine.api.services import Services


MAX_DEPTH: Final = 100
"""Deepest nesting of a JSON body; databases and the JSON writer have limits too."""
_INT64: Final = 2**63
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""An escaped NUL in JSON, but not an escaped backslash before the same letters."""
_JSON: Final = "application/json"
_NOT_JSON: Final = ", and this one came as {}: send it with 'Content-Type: application/json'"
"""Hint for a body that is not declared as JSON: curl's `--data` sends it as a form."""
_SMALL: Final = 16 * 1024
"""Largest request, in bytes, that is parsed on the event loop; larger ones would block it."""


@dataclass(frozen=True)
class Call:
    """A request: who sends it, its parameters and its body."""

    services: Services
    who: Identity
    method: str
    path: str
    params: Params
    headers: Mapping[str, str]
    base_uri: str
    secure: bool
    address: str
    request_id: str | None = None
    body: Any = None
    form: Mapping[str, list[str]] = field(default_factory=dict)
    media_type: str = _JSON
    """Media type of the body, without parameters."""

    def json_object(self) -> dict[str, Any]:
        """Return the body as an object. Raises `InvalidResourceError` for anything else."""
        if not isinstance(self.body, dict):
            hint = "" if _is_json(self.media_type) else _NOT_JSON.format(self.media_type[:100])
            raise InvalidResourceError(
                f"resource does not satisfy defined schema:\nthe body must be a JSON object{hint}"
            )
        return self.body


@dataclass(frozen=True)
class Reply:
    """A response: a JSON body with status and headers."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def status_map(status: int, message: str, resource_id: str, **more: Any) -> Reply:
    """Return a status map: `status`, `message` and `resource-id` (docs/cimi.md §1)."""
    headers = {"Location": resource_id} if status == 201 else {}
    body = {"status": status, "message": message, "resource-id": resource_id, **more}
    return Reply(body, status, headers)


async def make_call(request: Request, services: Services, who: Identity = ANONYMOUS) -> Call:
    """Parse a request; `who` may be filled in later. Raises `MalformedJsonError`."""
    headers = request.headers
    media_type = _media_type(headers.get("content-type", ""))
    raw = await request.body()
    query = request.scope["query_string"].decode("utf-8", "replace")
    if len(raw) + len(query) <= _SMALL:
        body, form, params = _parse(raw, media_type, query)
    else:
        body, form, params = await run_in_threadpool(_parse, raw, media_type, query)
    scheme = _first(headers.get("x-forwarded-proto")) or request.scope["scheme"]
    host = _first(headers.get("x-forwarded-host")) or headers.get("host") or request.url.netloc
    return Call(
        services=services,
        who=who,
        method=request.method,
        path=request.scope["path"],
        params=params,
        headers=headers,
        base_uri=f"{scheme}://{host}/api/",
        secure=scheme.lower() == "https",
        address=services.address_of(request),
        request_id=bound_field("request_id"),
        body=body,
        form=form,
        media_type=media_type,
    )


def _media_type(header: str) -> str:
    """Return the media type in a `Content-Type`, without parameters; JSON if it is empty."""
    return header.partition(";")[0].strip().lower() or _JSON


def _is_json(media_type: str) -> bool:
    return media_type == _JSON or media_type.endswith("+json")


def _first(header: str | None) -> str:
    """Return the first item of a header's list, which the proxy next to the client has set."""
    return (header or "").partition(",")[0].strip()


def _parse(raw: bytes, media_type: str, query: str) -> tuple[Any, Mapping[str, list[str]], Params]:
    """Return the body's JSON, the body's form, and the parameters."""
    form: dict[str, list[str]] = {}
    body: Any = None
    if media_type == "application/x-www-form-urlencoded":
        form = parse_qs(raw.decode("utf-8", "replace"), keep_blank_values=True)
        if any("\0" in text for texts in form.items() for text in (texts[0], *texts[1])):
            raise NulError
    elif raw and _is_json(media_type):
        body = parse_json(raw)
    return body, form, parse_params(query, form)


def parse_json(raw: bytes) -> Any:
    """Parse JSON, and refuse values that could not be stored or written again.

    Raises `MalformedJsonError` for malformed JSON, numbers that are not finite or have more
    than 64 bits, unpaired surrogates, NUL characters (which PostgreSQL cannot store), and
    nesting deeper than `MAX_DEPTH`.
    """
    try:
        # Decoded here: `json` would guess at UTF-16, and lets unpaired surrogates pass.
        text = raw.decode("utf-8-sig")
        value = _DECODER.decode(text)
        limit_depth(value)
        if r"\u" in text:  # only escapes can make an unpaired surrogate or a NUL
            _check_characters(json.dumps(value, ensure_ascii=False))
    except _UnstorableError as error:
        raise MalformedJsonError(str(error)) from error
    except UnicodeDecodeError as error:
        raise MalformedJsonError("It is not in UTF-8.") from error
    except (ValueError, RecursionError) as error:
        raise MalformedJsonError from error
    return value


class _UnstorableError(ValueError):
    """A JSON value that cannot be stored; the message names it."""


def _refuse(constant: str) -> NoReturn:
    raise _UnstorableError(f"{constant} is no number that JSON has.")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _UnstorableError("A number is too large.")
    return number


def _small_integer(text: str) -> int:
    number = int(text)
    if not -_INT64 <= number < _INT64:
        raise _UnstorableError("An integer has more than 64 bits; send it as a text.")
    return number


# Made once, because `json.loads` makes a new decoder for each call.
_DECODER: Final = json.JSONDecoder(
    parse_constant=_refuse, parse_float=_finite, parse_int=_small_integer
)


def _check_characters(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _UnstorableError("A text has one half of a surrogate pair.") from error
    if _NUL.search(text):
        raise _UnstorableError("A text has a NUL character.")


def limit_depth(value: Any) -> None:
    """Raise `ValueError` for a value that is nested deeper than `MAX_DEPTH`."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    if any(isinstance(inner, dict | list) for inner in level):
        raise _UnstorableError(f"It is nested more than {MAX_DEPTH} deep.")
