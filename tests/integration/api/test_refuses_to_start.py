"""An API that cannot start says in a sentence why, and what to do; no traceback hides it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

NEWER = "9999_newer"


API = [sys.executable, "-m", "job_engine.api"]


def environment(directory: Path) -> dict[str, str]:
    return {**os.environ, "JOB_ENGINE_DATA_DIR": str(directory), "JOB_ENGINE_PORT": "0"}


def start(directory: Path) -> subprocess.CompletedProcess[str]:
    """Start an API over a data directory, and wait for its end."""
    return subprocess.run(
        API, env=environment(directory), capture_output=True, text=True, timeout=60
    )


def test_a_file_that_is_served_already_or_is_newer(tmp_path: Path) -> None:
    with subprocess.Popen(
        API,
        env=environment(tmp_path),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as first:
        try:
            assert first.stderr is not None
            assert any("api.listening" in line for line in first.stderr)
            second = start(tmp_path)
            assert second.returncode == 2
            assert second.stderr.startswith("error: Another API process serves")
            assert second.stderr.count("\n") == 1
        finally:
            first.send_signal(signal.SIGTERM)
    assert first.returncode == 0
    # A lock that outlived its process would keep every restart off.
    with sqlite3.connect(tmp_path / "store.sqlite") as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (NEWER,))
    connection.close()
    third = start(tmp_path)
    assert third.returncode == 1
    assert NEWER in third.stderr
    assert "A newer release has upgraded it" in third.stderr
    assert "Traceback" not in third.stderr
