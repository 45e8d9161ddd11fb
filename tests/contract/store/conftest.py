"""One suite over every backend of the store, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine, make_url

from job_engine.store.factory import open_store
from job_engine.store.store import Store
from tests.contract.store.support import Clock, check_tally
from tests.databases import BACKENDS, database


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """The name of a backend."""
    return str(request.param)


@pytest.fixture
def store_url(request: pytest.FixtureRequest, backend: str, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without jobs."""
    with database(request, backend, tmp_path) as url:
        yield url


@pytest.fixture
def store(store_url: str, clock: Clock) -> Iterator[Store]:
    """A store that is open."""
    opened = open_store(store_url, clock)
    opened.start()
    yield opened
    opened.database.read(check_tally)
    opened.stop()


@pytest.fixture
def foreign(store_url: str) -> Iterator[Engine]:
    """Connections of somebody else, such as an operator's; each statement begins by itself."""
    url = make_url(store_url).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    yield engine
    engine.dispose()
