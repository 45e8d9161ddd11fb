"""One suite over every backend of the store, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from job_engine.store.factory import open_store
from job_engine.store.store import Store
from tests.contract.store.support import Clock

BACKENDS = ("sqlite",)


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


def url_of(backend: str, directory: Path) -> str:
    """The URL of an empty database of a backend."""
    assert backend == "sqlite"
    return f"sqlite:///{directory / 'store.sqlite'}"


@pytest.fixture(params=BACKENDS)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    return url_of(request.param, tmp_path)


@pytest.fixture
def store(store_url: str, clock: Clock) -> Iterator[Store]:
    """A store that is open."""
    opened = open_store(store_url, clock)
    opened.start()
    yield opened
    opened.stop()
