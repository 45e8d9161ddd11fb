"""The files of a data directory."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

from job_engine.cli.local_engine import EngineConfig, LocalEngine, RunInfo, save_secret
from job_engine.errors import ConfigurationError

CONFIG = EngineConfig(engine_id="abc", sandbox="none", sandbox_reason="asked for", api_port=8020)


def test_the_configuration_is_read_again(tmp_path: Path) -> None:
    engine = LocalEngine(tmp_path)
    assert engine.config() is None
    engine.save_config(CONFIG)
    assert LocalEngine(tmp_path).config() == CONFIG


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    engine = LocalEngine(tmp_path)
    engine.config_file.write_text("sandbox: [")
    with pytest.raises(ConfigurationError, match=r"engine\.yaml"):
        engine.config()


def test_only_one_engine_owns_a_directory(tmp_path: Path) -> None:
    with (
        LocalEngine(tmp_path).locked(),
        pytest.raises(ConfigurationError, match="--data-dir"),
        LocalEngine(tmp_path).locked(),
    ):
        pass
    with LocalEngine(tmp_path).locked():
        pass


def test_the_next_engine_waits_for_the_parts_of_one_that_was_killed(tmp_path: Path) -> None:
    with LocalEngine(tmp_path).locked() as lock:
        part = subprocess.Popen(["sleep", "60"], pass_fds=[lock])
    try:
        with pytest.raises(ConfigurationError, match="killed"), LocalEngine(tmp_path).locked():
            pass
        threading.Timer(0.3, part.kill).start()
        with LocalEngine(tmp_path).locked(patience_s=30):
            assert part.wait(5) != 0
    finally:
        part.kill()
        part.wait()


def test_an_engine_that_was_killed_does_not_count_as_running(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    engine = LocalEngine(tmp_path)
    engine.save_running(RunInfo(pid=ended.pid, api_url="http://x", zk_hosts="y"))
    assert engine.running() is None
    engine.save_running(RunInfo(pid=os.getpid(), api_url="http://x", zk_hosts="y"))
    assert engine.running() is not None
    engine.forget_running()
    assert engine.running() is None


def test_secrets_are_their_owners_only(tmp_path: Path) -> None:
    file = tmp_path / "keys" / "admin.json"
    save_secret(file, {"key": "k", "secret": "s"})
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
