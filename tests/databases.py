"""Databases for tests that run over every backend of the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests import postgres

BACKENDS: Final = ("sqlite", pytest.param("postgres", marks=pytest.mark.postgres))


@contextmanager
def database(
    request: pytest.FixtureRequest, backend: str, directory: Path, *, empty: bool = False
) -> Iterator[str]:
    """Make a database of a backend until the block ends; `empty`: without a schema."""
    if backend == "sqlite":
        yield f"sqlite:///{directory / 'store.sqlite'}"
        return
    server = request.getfixturevalue("postgres_server")
    template = "template1" if empty else request.getfixturevalue("postgres_template")
    with postgres.database(server, template) as url:
        yield postgres.text_of(url)
