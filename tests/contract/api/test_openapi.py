"""The OpenAPI document is true: every answer to what it describes is one that it describes.

Schemathesis draws requests from the document, good ones and bad ones, and sends them as an
admin, as who may create jobs, and as a stranger. Each of them has a server of their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from job_engine.api.app import create_app
from job_engine.settings import ApiSettings
from tests.unit.api.support import ADMIN, ANON, DISTRIBUTOR, EXECUTOR, LMS, serving

SEED: Final = 20240101
EXAMPLES: Final = 8
"""Requests that are drawn for each operation and caller, beside those at the edges."""
CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
STREAMS: Final = ("events", "changes")
"""They do not end, and have a test of their own."""

described = schemathesis.openapi.from_dict(
    create_app(ApiSettings()).openapi(),
    config=schemathesis.Config.from_dict(
        {
            "seed": SEED,
            "generation": {"max-examples": EXAMPLES, "with-security-parameters": False},
            # Methods that the document does not have are no answers that it describes.
            "phases": {"coverage": {"unexpected-methods": []}},
        }
    ),
).exclude(path_regex=rf"^/api/engine/({'|'.join(STREAMS)})$|/stream$")


@dataclass
class Asked:
    """A server, who asks it, and things that are there to ask about."""

    http: httpx.Client
    session: requests.Session
    """What schemathesis sends by: a connection of its own would cost each request more."""
    url: str
    who: str
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def existing(self, kind: str, chosen: int) -> str | None:
        """Make something of a type; returns its id without the type, None where nobody can."""
        number = next(self.numbers)
        template = {"href": f"{kind}-template/x", "username": f"user{number}", "password": "x" * 8}
        known: dict[str, tuple[str, dict[str, Any]]] = {
            "job": (LMS, {"json": {"action": "noop", "payload": f"[{number}]"}}),
            "blob": (LMS, {"content": str(number)}),
            "credential": (
                LMS,
                {"json": {"template": {"href": "credential-template/generate-api-key"}}},
            ),
            "assignment": (ADMIN, {"json": {"name": f"a{number}", "digest": self.bundle}}),
            "user": (
                ADMIN,
                {"json": {"template": {**template, "href": "user-template/username-password"}}},
            ),
        }
        if kind not in known:
            return {"session-template": "password"}.get(kind)
        who, request = known[kind]
        reply = self.send(who, "POST", kind, **request)
        assert reply.status_code == 201, reply.text
        resource = str(reply.json()["resource-id"])
        if kind == "job" and chosen % 3:
            self.send(ADMIN, "PUT", resource, json={"state": ("RUNNING", "FAILED")[chosen % 3 - 1]})
        return resource.partition("/")[2]

    def send(self, who: str, method: str, path: str, **more: Any) -> httpx.Response:
        """Send a request that is none of schemathesis's."""
        headers = {"nuvla-authn-info": who}
        return self.http.request(method, f"{self.url}/api/{path}", headers=headers, **more)

    @cached_property
    def user(self) -> str:
        """The id, without the type, of a user for all requests that leave it there."""
        user = self.existing("user", 0)
        assert user is not None
        return user

    @cached_property
    def bundle(self) -> str:
        """The digest of something that an assignment can be made of."""
        return str(self.send(ADMIN, "POST", "blob", content="bundle").json()["digest"])


@pytest.fixture(scope="module", params=[ADMIN, LMS, ANON], ids=["admin", "submitter", "stranger"])
def asked(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Asked]:
    """A server, and who asks it."""
    configured = ApiSettings(
        data_dir=tmp_path_factory.mktemp("api"),
        port=0,
        trusted_peers=["127.0.0.1"],
        anonymous_rate_per_s=0,
        rate_per_s=0,
    )
    with (
        serving(configured) as running,
        httpx.Client(timeout=60) as http,
        requests.Session() as session,
    ):
        yield Asked(http, session, running.url, request.param)


@described.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_described(case: schemathesis.Case[Any], asked: Asked) -> None:
    for name in {"uuid", "digest"} & case.path_parameters.keys():
        drawn = str(case.path_parameters[name])
        if len(drawn) % 2:  # else nearly every answer would be 404
            kind = case.operation.path.split("/")[2]
            if kind == "user" and case.method != "DELETE":
                case.path_parameters[name] = asked.user  # its password takes long to hash
            else:
                case.path_parameters[name] = asked.existing(kind, len(drawn)) or drawn
    case.call_and_validate(
        base_url=asked.url,
        headers={"nuvla-authn-info": asked.who},
        session=asked.session,
        checks=CHECKS,
    )


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize(("who", "status"), [(DISTRIBUTOR, 200), (EXECUTOR, None), (LMS, 403)])
def test_streams_are_described(asked: Asked, stream: str, who: str, status: int | None) -> None:
    responses = create_app(ApiSettings()).openapi()["paths"][f"/api/engine/{stream}"]["get"][
        "responses"
    ]
    headers = {"nuvla-authn-info": who}
    with asked.http.stream("GET", f"{asked.url}/api/engine/{stream}", headers=headers) as reply:
        assert reply.status_code in ({status} if status else {200, 403})
        kind = reply.headers["content-type"].partition(";")[0]
        assert list(responses[str(reply.status_code)]["content"]) == [kind]
        if reply.status_code == 200:
            assert next(reply.iter_lines()) == ": connected"
