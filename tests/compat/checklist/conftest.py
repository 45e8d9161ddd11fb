"""The contract's checklist (docs/cimi.md §7) against a real server, over HTTP.

A statement is one function, `test_<NNN>_<what it says>`. They share a server, and so its
jobs: a test finds its own by an action, a name or a parent that nobody else uses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import httpx
import pytest

from tests.support.engine import Engine

Headers = Mapping[str, str]


def identity(terms: str) -> Headers:
    """The header that a trusted peer says with who somebody is."""
    return {"nuvla-authn-info": terms}


ADMIN: Final = identity(
    "internal group/nuvla-admin group/nuvla-admin group/nuvla-user group/nuvla-anon"
)
JANE: Final = identity("user/jane user/jane user/jane group/nuvla-user group/nuvla-anon")
NB: Final = identity(
    "nuvlabox/x nuvlabox/x nuvlabox/x group/nuvla-nuvlabox group/nuvla-user group/nuvla-anon"
)
ANON: Final[Headers] = {}

JJ_ACL: Final = {
    "owners": ["group/nuvla-admin"],
    "view-acl": ["user/jane"],
    "manage": ["user/jane"],
}
"""The rights of the checklist's JJ: Jane sees all of it, and may cancel it."""


@dataclass(frozen=True)
class Served:
    """An API process that answers."""

    url: str
    """Without `/api`."""
    store: Path
    """The file of its SQLite store."""
    engine: Engine

    def __str__(self) -> str:
        return self.url


class Http(httpx.Client):
    """Requests to the server, such as `http.get("/api/job", headers=http.JANE)`."""

    ADMIN: ClassVar[Headers] = ADMIN
    JANE: ClassVar[Headers] = JANE
    NB: ClassVar[Headers] = NB
    ANON: ClassVar[Headers] = ANON

    def add_job(self, who: Headers = ADMIN, **attributes: Any) -> str:
        """Create a job, and return its id; keywords have underscores for dashes."""
        body = {"action": "noop", **{k.replace("_", "-"): v for k, v in attributes.items()}}
        reply = self.post("/api/job", json=body, headers=who)
        assert reply.status_code == 201, reply.text
        return str(reply.json()["resource-id"])

    def read(self, resource_id: str, who: Headers = ADMIN) -> dict[str, Any]:
        """Read a resource."""
        reply = self.get(f"/api/{resource_id}", headers=who)
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()
        return found

    def search(self, who: Headers = ADMIN, kind: str = "job", **params: Any) -> dict[str, Any]:
        """Search as the clients do: a PUT with a form."""
        reply = self.put(f"/api/{kind}", data=params, headers=who)
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()
        return found


def refused(reply: httpx.Response, status: int, message: str) -> dict[str, Any]:
    """Assert that a reply is the contract's error, and return its body."""
    body: dict[str, Any] = reply.json()
    assert (reply.status_code, body["status"]) == (status, status), reply.text
    assert message in body["message"], body
    return body


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An API in a process of its own, that believes the header of who comes from loopback."""
    directory = tmp_path_factory.mktemp("checklist")
    # Nothing here needs a queue; the API itself does not talk to ZooKeeper.
    with Engine(directory, "127.0.0.1:1") as engine:
        engine.start_api(trusted_peers=["127.0.0.1"], log_level="WARNING")
        yield Served(engine.url, directory / "data" / "store.sqlite", engine)


@pytest.fixture(scope="session")
def http(server: Served) -> Iterator[Http]:
    """A client without an identity of its own: each request says whose it is."""
    with Http(base_url=server.url, timeout=30) as client:
        yield client
