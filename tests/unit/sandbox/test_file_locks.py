"""The gauge of file locks, on this process and what it really holds."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from job_engine.sandbox import file_locks
from job_engine.sandbox.file_locks import LockGauge

LOCKS = 60


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[None]:
    """This process has a file with many locks, and another without any."""
    with (tmp_path / "locked").open("w") as file, (tmp_path / "plain").open("w"):
        for number in range(LOCKS):
            fcntl.lockf(file, fcntl.LOCK_EX, 1, number * 2)
        yield


def gauge(directory: Path, host: str, processes: list[int]) -> LockGauge:
    (directory / "slabinfo").write_text(f"slabinfo - version: 2.1\n{host}")
    return LockGauge(lambda: processes, directory / "slabinfo")


@pytest.mark.parametrize(
    ("host", "allowed", "exceeded"),
    [
        ("file_lock_cache 60000 60000 192 21 1\n", LOCKS - 1, True),
        ("filelock_cache 60000 60000 192 21 1\n", LOCKS - 1, True),
        ("file_lock_cache 60000 60000 192 21 1\n", LOCKS + 30, False),
        ("file_lock_cache 100 60000 192 21 1\n", 1, False),  # Not worth a look.
        ("dentry 100 100 192 21 1\n", LOCKS - 1, True),  # Not told, so it is looked at.
    ],
)
def test_too_many_locks_are_found(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    locked: None,
    host: str,
    allowed: int,
    exceeded: bool,
) -> None:
    monkeypatch.setattr(file_locks, "MAX_LOCKS", allowed)
    assert gauge(tmp_path, host, [os.getpid()]).exceeded(10.0) is exceeded


def test_processes_that_are_gone_hold_none_and_it_is_not_asked_too_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locked: None
) -> None:
    monkeypatch.setattr(file_locks, "MAX_LOCKS", 1)
    processes = [2**22 + 1]
    found = gauge(tmp_path, "", processes)
    assert not found.exceeded(10.0)
    processes.append(os.getpid())
    assert not found.exceeded(10.1)
    assert found.exceeded(10.3)
