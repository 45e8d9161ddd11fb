"""People who log in, for tests of what a session is good for."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpx

from tests.unit.api.support import ADMIN, ANON, Client, Running

PASSWORD: Final = "long enough"
NEW_KEY: Final = "credential-template/generate-api-key"


def ok(reply: httpx.Response) -> Any:
    """Assert that a request was granted, and return its answer."""
    assert reply.status_code < 300, reply.text
    return reply.json()


def add_user(api: Client, *roles: str, name: str | None = None) -> str:
    """Make a user, and return their id."""
    template = {
        "href": "user-template/username-password",
        "username": name or uuid.uuid4().hex,
        "password": PASSWORD,
        "roles": list(roles),
    }
    return str(ok(api(ADMIN, "POST", "user", {"template": template}))["resource-id"])


def add_group(api: Client, *users: str) -> str:
    """Make a group of users, and return its id."""
    template = {
        "href": "group-template/generic",
        "group-identifier": f"g-{uuid.uuid4()}",
        "users": list(users),
    }
    return str(ok(api(ADMIN, "POST", "group", {"template": template}))["resource-id"])


def add_key(client: Client, who: str = ANON, **template: object) -> dict[str, str]:
    """Make an API key, and return it as a login takes it."""
    body = {"template": {"href": NEW_KEY, **template}}
    made = ok(client(who, "POST", "credential", body))
    return {"key": made["resource-id"], "secret": made["secret-key"]}


def log_in(client: Client, method: str, **template: str) -> str:
    """Log in, and return the session's id."""
    body = {"template": {"href": f"session-template/{method}", **template}}
    return str(ok(client(ANON, "POST", "session", body))["resource-id"])


def log_in_as(client: Client, user: str, password: str = PASSWORD) -> str:
    """Log a user in with their password, and return the session's id."""
    name = client.services.store.resources.get(user)["username"]
    return log_in(client, "password", username=name, password=password)


def is_in(client: Client) -> bool:
    """Whether a client's session is still one."""
    found = client(ANON, "PUT", "session").json()["count"]
    reply = client(ANON, "PUT", "job", data={"last": "0"})
    assert reply.status_code == (200 if found else 403)
    return bool(found)


@contextmanager
def browsing(running: Running) -> Iterator[Client]:
    """A client with cookies of its own."""
    with httpx.Client(base_url=running.url, timeout=30) as http:
        yield Client(http, running)
