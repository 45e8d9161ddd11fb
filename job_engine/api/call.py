"""One request, parsed: what the resource types see of HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from starlette.requests import Request

from job_engine.api.errors import MalformedJsonError
from job_engine.api.identity import Identity
from job_engine.api.params import Params, parse_params
from job_engine.errors import InvalidResourceError

if TYPE_CHECKING:
    from job_engine.api.services import Services


@dataclass(frozen=True)
class Call:
    """A request of somebody, with its parameters and its body."""

    services: Services
    who: Identity
    method: str
    path: str
    params: Params
    headers: Mapping[str, str]
    base_uri: str
    secure: bool
    address: str
    body: Any = None
    form: Mapping[str, list[str]] = field(default_factory=dict)

    def json_object(self) -> dict[str, Any]:
        """Return the body as an object. Raises `InvalidResourceError` for anything else."""
        if not isinstance(self.body, dict):
            raise InvalidResourceError(
                "resource does not satisfy defined schema:\nthe body must be a JSON object"
            )
        return self.body


@dataclass(frozen=True)
class Reply:
    """An answer: a JSON body with its status and headers."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def status_map(status: int, message: str, resource_id: str, **more: Any) -> Reply:
    """Return the answer that says what became of a resource."""
    headers = {"Location": resource_id} if status == 201 else {}
    body = {"status": status, "message": message, "resource-id": resource_id, **more}
    return Reply(body, status, headers)


async def make_call(request: Request, services: Services, who: Identity) -> Call:
    """Read the request. Raises `MalformedJsonError` and `InvalidFilterError`."""
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip()
    raw = await request.body()
    form: dict[str, list[str]] = {}
    body: Any = None
    if media_type == "application/x-www-form-urlencoded":
        form = parse_qs(raw.decode("utf-8", "replace"), keep_blank_values=True)
    elif raw and (media_type == "application/json" or media_type.endswith("+json")):
        body = parse_json(raw)
    scheme = request.headers.get("x-forwarded-proto", request.url.scheme)
    host = request.headers.get("x-forwarded-host") or request.headers.get("host", "")
    return Call(
        services=services,
        who=who,
        method=request.method,
        path=request.url.path,
        params=parse_params(request.url.query, form),
        headers=request.headers,
        base_uri=f"{scheme}://{host or request.url.netloc}/api/",
        secure=scheme == "https",
        address=request.client.host if request.client else "",
        body=body,
        form=form,
    )


def parse_json(raw: bytes) -> Any:
    """Read JSON as its standard has it: no NaN, no unpaired surrogates."""
    try:
        return json.loads(raw, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise MalformedJsonError from error


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")
