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
from tests.unit.api.support import ADMIN_PASSWORD, Running, serving


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    """A server of this test alone."""
    configured = ApiSettings(data_dir=tmp_path, port=0, admin_password=SecretStr(ADMIN_PASSWORD))
    with serving(configured) as running:
        yield running


@pytest.mark.parametrize("path", ["job", "job/x", "session", "engine/feed?action=a&window=1"])
def test_a_session_that_cannot_be_looked_up_is_503(
    server: Running, tmp_path: Path, path: str
) -> None:
    api = Api(server.url)
    assert api.login_password("admin", ADMIN_PASSWORD).status_code == 201
    cookies = dict(api.session.cookies)
    api.close()
    server.services.sessions.changed()
    with closing(sqlite3.connect(tmp_path / "store.sqlite")) as store:
        store.execute("ALTER TABLE resources RENAME TO away")
    reply = httpx.get(f"{server.url}/api/{path}", cookies=cookies)
    assert reply.status_code == 503, reply.text
