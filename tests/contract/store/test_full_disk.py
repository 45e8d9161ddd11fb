"""A store whose disk is full when it is opened says that, and not that the disk is broken."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from job_engine.errors import StoreError
from job_engine.store.factory import open_store
from tests.conftest import require


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB."""
    require(os.geteuid() == 0, "needs root, to mount")
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(tmp_path)]
    made = subprocess.run(mount, capture_output=True, text=True)
    require(made.returncode == 0, f"needs to mount: {made.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_it_says_that_there_is_no_room(small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(bytes(460 * 1024))
    store = open_store(f"sqlite:///{small_disk / 'store.sqlite'}")
    with pytest.raises(StoreError, match=r"bytes left: make room"):
        store.start()
