"""Requests while the store does not answer: told to come again, and no defect."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from job_engine.client import Api
from job_engine.settings import ApiSettings
from tests.unit.api.support import ADMIN, ADMIN_PASSWORD, Running, serving


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    """A server of this test alone."""
    configured = ApiSettings(
        data_dir=tmp_path,
        port=0,
        admin_password=SecretStr(ADMIN_PASSWORD),
        trusted_peers=["127.0.0.1"],
    )
    with serving(configured) as running:
        yield running


def take_away(table: str, directory: Path) -> None:
    with closing(sqlite3.connect(directory / "store.sqlite")) as store:
        store.execute(f"ALTER TABLE {table} RENAME TO away")


@pytest.mark.parametrize("stream", ["events", "changes"])
def test_a_stream_ends_as_a_whole(server: Running, tmp_path: Path, stream: str) -> None:
    headers = {"nuvla-authn-info": ADMIN}
    with httpx.stream("GET", f"{server.url}/api/engine/{stream}", headers=headers) as reply:
        lines = reply.iter_lines()
        assert next(lines) == ": connected"
        take_away("events", tmp_path)
        assert "data" not in "".join(lines)


def test_a_session_that_cannot_be_looked_up_is_503(server: Running, tmp_path: Path) -> None:
    api = Api(server.url)
    assert api.login_password("admin", ADMIN_PASSWORD).status_code == 201
    cookies = dict(api.session.cookies)
    api.close()
    server.services.sessions.changed()
    take_away("resources", tmp_path)
    for path in ("job", "job/x", "session", "engine/feed?action=a&window=1"):
        reply = httpx.get(f"{server.url}/api/{path}", cookies=cookies)
        assert reply.status_code == 503, reply.text
