"""Two API processes on one PostgreSQL database: a client does not notice which one answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import URL

from job_engine.api.server import make_server
from job_engine.settings import ApiSettings
from tests import postgres
from tests.unit.api.support import ADMIN, DISTRIBUTOR, Running

PASSWORD = "correct horse"
pytestmark = pytest.mark.postgres


@contextmanager
def engine(server: URL, directory: Path) -> Iterator[list[Running]]:
    """Two servers that start at the same moment, over a database in which nothing is."""
    with ExitStack() as stack:
        url = stack.enter_context(postgres.database(server))
        settings = ApiSettings(
            data_dir=directory,
            database_url=postgres.text_of(url),
            port=0,
            admin_password=SecretStr(PASSWORD),
            trusted_peers=["127.0.0.1"],
        )
        made = [make_server(settings) for _ in range(2)]
        threads = [threading.Thread(target=server.run, name="api") for server in made]
        for one, thread in zip(made, threads, strict=True):
            thread.start()
            stack.callback(thread.join, 10)
            stack.callback(setattr, one, "should_exit", True)
        assert all(one.wait_started(30) for one in made), "a server did not start"
        yield [Running(f"http://127.0.0.1:{one.port}", one) for one in made]


@pytest.fixture(scope="module")
def servers(
    postgres_server: URL, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Running]]:
    """Two servers for all tests of this file."""
    with engine(postgres_server, tmp_path_factory.mktemp("two")) as started:
        yield started


def as_(who: str) -> dict[str, str]:
    return {"nuvla-authn-info": who}


def test_they_start_together_and_log_in_the_same_people(servers: list[Running]) -> None:
    template = {"href": "session-template/password", "username": "admin", "password": PASSWORD}
    with httpx.Client() as client:
        reply = client.post(f"{servers[0].url}/api/session", json={"template": template})
        assert reply.status_code == 201, reply.text
        session = reply.json()["resource-id"]
        cookie = {"cookie": reply.headers["set-cookie"].partition(";")[0]}
        for server in servers:
            found = client.get(f"{server.url}/api/{session}", headers=cookie)
            assert found.status_code == 200, found.text
            users = client.get(f"{server.url}/api/user", headers=cookie).json()
            assert users["count"] == 1


def test_streams_of_one_process_have_the_events_of_the_other(
    servers: list[Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once: what they would find by looking themselves, they would find in an hour."""
    monkeypatch.setattr("job_engine.api.routes.events.POLL_S", 3600.0)
    one, other = (server.url for server in servers)
    with httpx.stream("GET", f"{one}/api/engine/events", headers=as_(DISTRIBUTOR)) as stream:
        lines = stream.iter_lines()
        while ": connected" not in next(lines):
            pass
        reply = httpx.post(f"{other}/api/job", json={"action": "noop"}, headers=as_(ADMIN))
        job = reply.json()["resource-id"]
        event = next(line for line in lines if line.startswith("data:"))
        assert job in event


def test_a_job_goes_from_one_to_the_other(servers: list[Running]) -> None:
    one, other = (server.url for server in servers)
    job = httpx.post(f"{one}/api/job", json={"action": "a"}, headers=as_(ADMIN)).json()[
        "resource-id"
    ]
    edited = httpx.put(f"{other}/api/{job}", json={"name": "x"}, headers=as_(ADMIN))
    assert edited.status_code == 200, edited.text
    assert httpx.get(f"{one}/api/{job}", headers=as_(ADMIN)).json()["name"] == "x"
    assert httpx.post(f"{other}/api/{job}/cancel", headers=as_(ADMIN)).status_code == 200
    assert httpx.get(f"{one}/api/{job}", headers=as_(ADMIN)).json()["state"] == "CANCELED"
