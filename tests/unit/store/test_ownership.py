"""A SQLite file has one API process; what cannot be a store is refused with a remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from job_engine.errors import ConfigurationError, StoreError
from job_engine.store.sqlite.backend import SqliteDatabase
from job_engine.store.sqlite.ownership import sole_owner


def test_a_file_has_one_owner_at_a_time(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new/store.sqlite"
    refused = pytest.raises(ConfigurationError, match="Another API process")
    with sole_owner(url), refused, sole_owner(url):
        pass
    with sole_owner(url):
        pass


def test_a_server_is_shared() -> None:
    with sole_owner("postgresql://db/x"), sole_owner("postgresql://db/x"):
        pass


def test_an_error_of_the_owner_is_its_own(tmp_path: Path) -> None:
    with pytest.raises(BlockingIOError), sole_owner(f"sqlite:///{tmp_path}/store.sqlite"):
        raise BlockingIOError


def test_a_directory_that_cannot_be() -> None:
    with pytest.raises(ConfigurationError, match="--data-dir"), sole_owner("sqlite:////proc/no/x"):
        pass


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_text("This is a letter.")
    with pytest.raises(StoreError, match=r"store\.sqlite: file is not a database$"):
        SqliteDatabase(tmp_path / "store.sqlite").start()
