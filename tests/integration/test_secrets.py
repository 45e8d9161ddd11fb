"""Secrets are said once, to whom they belong, and written nowhere: logs, answers, the trail."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.support.engine import ADMIN_PASSWORD, Engine

PASSWORD: Final = "a-password-of-janes"
SECOND: Final = "a-second-password"
GUESS: Final = "a-wrong-guess-of-hers"


class Client(httpx.Client):
    """Remembers every answer, headers and all."""

    def __init__(self, url: str) -> None:
        super().__init__(base_url=url, timeout=60)
        self.heard: list[str] = []

    def say(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request, and return the answer's JSON."""
        reply = self.request(method, f"/api/{path}", json=body)
        self.heard.append(f"{reply.headers}\n{reply.text}")
        return reply.json()

    def log_in(self, method: str, **template: str) -> Any:
        """Log in."""
        return self.say(
            "POST", "session", {"template": {"href": f"session-template/{method}", **template}}
        )


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An API that logs all it has to say."""
    with Engine(tmp_path, "127.0.0.1:1") as engine:
        engine.start_api(log_level="DEBUG", log_format="json")
        yield engine


def test_secrets_are_written_nowhere(engine: Engine, tmp_path: Path) -> None:
    output: dict[str, str] = {}
    with Client(engine.url) as client:
        client.log_in("password", username="admin", password=ADMIN_PASSWORD)
        template = {"href": "user-template/username-password", "username": "jane"}
        user = client.say("POST", "user", {"template": {**template, "password": PASSWORD}})
        user_id = user["resource-id"]
        client.say("POST", "user", {"template": {**template, "password": PASSWORD}})  # a conflict
        client.say("POST", "user", {"template": {**template, PASSWORD: "x" * 3}})
        client.say("PUT", user_id, {"password": SECOND})
        client.say("PUT", user_id, {"password": SECOND[:5]})
        client.log_in("password", username="jane", password=GUESS)
        client.log_in("password", username="jane", password=SECOND)
        change = {"current-password": GUESS, "new-password": PASSWORD}
        client.say("POST", f"{user_id}/change-password", change)
        change = {"current-password": SECOND, "new-password": PASSWORD}
        client.say("POST", f"{user_id}/change-password", change)
        client.log_in("password", username="jane", password=PASSWORD)
        new_key = {"href": "credential-template/generate-api-key", "ttl": 1000}
        key = client.say("POST", "credential", {"template": new_key})
        secret = key["secret-key"]
        output["the answer that made the key"] = client.heard.pop()
        client.log_in("api-key", key=key["resource-id"], secret=secret)
        client.log_in("api-key", key=key["resource-id"], secret=GUESS)
        client.log_in("api-key", key=secret, secret=GUESS)
        # Bodies that are broken, in ways that an error might quote.
        client.post("/api/session", content=f'{{"secret": "{secret}"')
        client.say("POST", "session", {"template": secret})
        client.say("POST", "session", [secret])
        for path in ("credential", "user", "session", "event", key["resource-id"], user_id):
            client.say("GET", path)
        client.say("PUT", key["resource-id"], {"name": "mine"})
        client.say("DELETE", key["resource-id"])
        heard = "\n".join(client.heard)
    assert secret in output["the answer that made the key"]
    assert engine.stop("api") == 0
    log = engine.log("api")
    assert '"event"' in log
    files = sorted((tmp_path / "data").glob("store.sqlite*"))
    stored = b"".join(file.read_bytes() for file in files)
    for name in (PASSWORD, SECOND, GUESS, secret, secret.replace(".", "")):
        assert name not in log
        assert name.encode() not in stored
    for name in (SECOND, secret.replace(".", ""), "argon2"):
        assert name not in heard
    services = [json.loads(f.read_text()) for f in (tmp_path / "credentials").glob("*.json")]
    assert len(services) == 2
    for service in services:
        assert service["secret"] not in log + heard
        assert service["secret"].encode() not in stored
    with closing(sqlite3.connect(tmp_path / "data" / "store.sqlite")) as store:
        digests = [
            row[0] for row in store.execute("SELECT secret FROM resources WHERE secret != ''")
        ]
    assert len(digests) == 4  # admin's, Jane's, and the services'
    assert all(digest.startswith("$argon2id$") for digest in digests)
