"""The application over HTTP, with the identities of the contract's checklist (docs/cimi.md §7)."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from pydantic import SecretStr

from job_engine.settings import ApiSettings
from tests.unit.api.support import ADMIN_PASSWORD, Client, Running, serving


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> ApiSettings:
    """Settings that believe the header of who comes from this machine."""
    return ApiSettings(
        data_dir=tmp_path_factory.mktemp("api"),
        port=0,
        admin_password=SecretStr(ADMIN_PASSWORD),
        trusted_peers=["127.0.0.1"],
        max_blob_bytes=100_000,
        max_body_bytes=1_000_000,
    )


@pytest.fixture(scope="module")
def server(settings: ApiSettings) -> Iterator[Running]:
    """A server on a free port, which a module's tests share."""
    with serving(settings) as running:
        yield running


@pytest.fixture
def api(server: Running) -> Iterator[Client]:
    """Requests as one of the identities."""
    with httpx.Client(base_url=server.url, timeout=30) as http:
        yield Client(http, server)
