"""A server that believes who the matrix says it is."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from job_engine.settings import ApiSettings
from tests.contract.access.subjects import World
from tests.unit.api.support import Client, serving


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server, and resources in it to try everything on."""
    settings = ApiSettings(
        data_dir=tmp_path_factory.mktemp("matrix"), port=0, trusted_peers=["127.0.0.1"]
    )
    with serving(settings) as running, httpx.Client(base_url=running.url, timeout=60) as http:
        yield World(Client(http, running))
