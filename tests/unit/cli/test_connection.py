"""Which engine a command means, and with which login."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from job_engine.cli.app import app
from job_engine.cli.connection import Target, find_target, forget_login, keep_login, open_api
from job_engine.cli.exits import UNREACHABLE
from job_engine.cli.local_engine import LocalEngine, RunInfo, save_secret
from job_engine.errors import ApiUnavailableError

KEY = {"key": "credential/1", "secret": "s"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def running(directory: Path, url: str) -> Path:
    engine = LocalEngine(directory)
    directory.mkdir(parents=True, exist_ok=True)
    engine.save_running(RunInfo(pid=os.getpid(), api_url=url, zk_hosts="127.0.0.1:1"))
    save_secret(engine.credentials_file("admin"), KEY)
    return directory


def test_a_data_directory_gives_address_login_and_zookeeper(tmp_path: Path) -> None:
    directory = running(tmp_path / "engine", "http://local")
    expected = Target("http://local", KEY, "127.0.0.1:1")
    assert find_target(None, directory) == expected


def test_a_variable_names_the_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOB_ENGINE_DATA_DIR", str(running(tmp_path / "engine", "http://local")))
    assert find_target(None, None).api_url == "http://local"


def test_the_default_directory_is_found_without_being_told(home: Path) -> None:
    running(home / ".local/share/job-engine", "http://local")
    assert find_target(None, None).api_url == "http://local"


def test_key_and_secret_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_ENGINE_API_URL", "http://remote/")
    monkeypatch.setenv("JOB_ENGINE_API_KEY", "credential/2")
    monkeypatch.setenv("JOB_ENGINE_API_SECRET", "t")
    expected = Target("http://remote", {"key": "credential/2", "secret": "t"}, None)
    assert find_target(None, None) == expected


def test_a_login_is_kept_and_forgotten() -> None:
    file = keep_login("http://remote", KEY)
    assert file.stat().st_mode & 0o777 == 0o600
    assert find_target(None, None) == Target("http://remote", KEY, None)
    assert find_target("http://remote/", None).credentials == KEY
    assert find_target("http://other", None).credentials is None
    forget_login()
    with pytest.raises(ApiUnavailableError, match="job-engine up"):
        find_target(None, None)


def test_a_flag_wins_over_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_login("http://kept", KEY)
    monkeypatch.setenv("JOB_ENGINE_API_URL", "http://variable")
    assert find_target("http://flag", None).api_url == "http://flag"
    directory = running(tmp_path / "engine", "http://local")
    assert find_target(None, directory).api_url == "http://local"


def test_an_engine_that_does_not_answer_says_what_to_do() -> None:
    with pytest.raises(ApiUnavailableError, match=r"job-engine up.*JOB_ENGINE_API_URL"):
        open_api(Target("http://127.0.0.1:1", None, None))


def test_a_zookeeper_that_is_away_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_ENGINE_API_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("JOB_ENGINE_ZK_HOSTS", "127.0.0.1:1")
    monkeypatch.setattr("job_engine.cli.zookeeper.TIMEOUT_S", 0.3)
    result = CliRunner().invoke(app, ["executor", "list"])
    assert result.exit_code == UNREACHABLE
    assert result.output.startswith("error: No ZooKeeper answers at 127.0.0.1:1. See whether")
    assert result.output.count("\n") == 1
