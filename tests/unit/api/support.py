"""Requests as somebody."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx
from httpx import Response

from job_engine.api.server import Server, make_server
from job_engine.api.services import Services
from job_engine.settings import ApiSettings

ADMIN_PASSWORD: Final = "correct horse"

ADMIN: Final = "internal group/nuvla-admin group/nuvla-admin group/nuvla-user group/nuvla-anon"
JANE: Final = "user/jane user/jane user/jane group/nuvla-user group/nuvla-anon"
JOE: Final = "user/joe user/joe user/joe group/nuvla-user group/nuvla-anon"
LMS: Final = "user/lms user/lms user/lms group/nuvla-user group/job-submitter"
TEACHER: Final = "user/t user/t user/t group/nuvla-user group/job-teacher group/job-submitter"
NB: Final = "nuvlabox/x nuvlabox/x nuvlabox/x group/nuvla-nuvlabox group/nuvla-user"
EXECUTOR: Final = "service/executor service/executor service/executor group/job-executor"
DISTRIBUTOR: Final = "service/d service/d service/d group/job-distributor group/nuvla-user"
ANON: Final = ""

JJ_ACL: Final = {
    "owners": ["group/nuvla-admin"],
    "view-acl": ["user/jane"],
    "manage": ["user/jane"],
}


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    url: str
    server: Server

    @property
    def services(self) -> Services:
        """What its application shares."""
        services: Services = self.server.app.state.services
        return services


@contextmanager
def serving(settings: ApiSettings) -> Iterator[Running]:
    """Serve in a thread of this process until the block ends."""
    server = make_server(settings)
    thread = threading.Thread(target=server.run, name="api")
    thread.start()
    try:
        assert server.wait_started(30), "the server did not start"
        yield Running(f"http://127.0.0.1:{server.port}", server)
    finally:
        server.should_exit = True
        thread.join(10)
    assert not thread.is_alive(), "the server did not stop"


class Client:
    """An HTTP client, with an identity for each request."""

    def __init__(self, http: httpx.Client, running: Running) -> None:
        self.http = http
        self.running = running

    def __call__(self, who: str, method: str, path: str, body: Any = None, **more: Any) -> Response:
        """Send a request to `/api/<path>`."""
        headers: dict[str, str] = {"nuvla-authn-info": who, **more.pop("headers", {})}
        if body is not None:
            more["json"] = body
        return self.http.request(method, f"/api/{path}", headers=headers, **more)

    def add_job(self, who: str = ADMIN, **attributes: Any) -> str:
        """Create a job; keywords are attributes, with underscores for dashes."""
        body = {"action": "noop", **{k.replace("_", "-"): v for k, v in attributes.items()}}
        reply = self(who, "POST", "job", body)
        assert reply.status_code == 201, reply.text
        return str(reply.json()["resource-id"])

    def run_job(self, who: str = EXECUTOR, **attributes: Any) -> str:
        """Create a job, and claim it as an executor."""
        job = self.add_job(**attributes)
        entry = f"entry-999-{uuid.uuid4().int % 10**10:010}"
        claim = {"job": job, "entry": entry, "fence": [1, 1]}
        body = {"executor": "e", "actions": ["noop"], "job_version": 2, "claims": [claim]}
        reply = self(who, "POST", "engine/claim", body).json()
        assert reply["replies"][0]["answer"] == "run", reply
        return job

    def get(self, resource_id: str, who: str = ADMIN) -> Any:
        """Read a resource."""
        reply = self(who, "GET", resource_id)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def count(self, who: str, filter_: str, type_name: str = "job") -> int:
        """Count what somebody finds."""
        reply = self(who, "PUT", type_name, data={"filter": filter_, "last": "0"})
        assert reply.status_code == 200, reply.text
        return int(reply.json()["count"])

    @property
    def services(self) -> Services:
        """What the application shares."""
        return self.running.services


def operations(document: dict[str, Any]) -> list[str]:
    """The names of a document's operations."""
    return [item["rel"] for item in document.get("operations", [])]


def refused(reply: Response, status: int, message: str) -> bool:
    """Assert that a reply is the contract's status map."""
    body = reply.json()
    assert (reply.status_code, body["status"]) == (status, status), reply.text
    assert message in body["message"], body
    return True
