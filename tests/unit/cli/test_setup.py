"""What is decided when an engine is set up, and what stays."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from job_engine.cli.checks import cgroup_controllers, port_is_free
from job_engine.cli.local_engine import LocalEngine
from job_engine.cli.up.command import child_environment
from job_engine.cli.up.setup import configure
from job_engine.errors import ConfigurationError
from job_engine.settings import UpSettings


def settings(**changes: object) -> UpSettings:
    return UpSettings.model_validate({"port": 0, "sandbox": "none", **changes})


@pytest.fixture
def engine(tmp_path: Path) -> LocalEngine:
    return LocalEngine(tmp_path)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


def test_the_second_start_finds_what_the_first_chose(engine: LocalEngine) -> None:
    first = configure(engine, settings())
    assert first.zookeeper_port not in (None, 0, first.api_port)
    assert configure(engine, settings(sandbox=None)) == first


def test_the_sandbox_is_never_switched(engine: LocalEngine) -> None:
    configure(engine, settings())
    with pytest.raises(ConfigurationError, match="set up with the sandbox none"):
        configure(engine, settings(sandbox="docker"))


def test_a_remembered_port_that_is_taken_is_replaced(engine: LocalEngine, taken_port: int) -> None:
    first = configure(engine, settings())
    engine.save_config(first.model_copy(update={"api_port": taken_port}))
    assert configure(engine, settings()).api_port != taken_port


def test_a_port_that_was_asked_for_is_taken_or_refused(
    engine: LocalEngine, taken_port: int
) -> None:
    assert not port_is_free("127.0.0.1", taken_port)
    with pytest.raises(ConfigurationError, match=r"--port 0 takes a free one"):
        configure(engine, settings(port=taken_port))


def test_engines_have_ids_of_their_own(tmp_path: Path) -> None:
    first, second = LocalEngine(tmp_path / "a"), LocalEngine(tmp_path / "b")
    with first.locked(), second.locked():
        assert configure(first, settings()).engine_id != configure(second, settings()).engine_id


def test_children_inherit_all_but_what_up_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("JOB_ENGINE_SANDBOX", "none"),
        ("JOB_ENGINE_ADMIN_PASSWORD", "p"),
        ("JOB_ENGINE_MAX_CPUS", "1"),
        ("NAME", "somebody"),
    ):
        monkeypatch.setenv(name, value)
    environment = child_environment({"THREADS": "2"}, settings(log_level="DEBUG"))
    assert "JOB_ENGINE_SANDBOX" not in environment
    assert "JOB_ENGINE_ADMIN_PASSWORD" not in environment
    assert environment["JOB_ENGINE_MAX_CPUS"] == "1"
    assert environment["NAME"] == "somebody"
    assert environment["JOB_ENGINE_THREADS"] == "2"
    assert environment["JOB_ENGINE_LOG_LEVEL"] == "DEBUG"


def test_cgroup_controllers_of_both_versions(tmp_path: Path) -> None:
    assert cgroup_controllers(tmp_path / "absent") == ("v1", frozenset())
    for name in ("cpu,cpuacct", "memory"):
        (tmp_path / "v1" / name).mkdir(parents=True)
    assert cgroup_controllers(tmp_path / "v1") == ("v1", frozenset({"cpu", "cpuacct", "memory"}))
    (tmp_path / "v2").mkdir()
    (tmp_path / "v2" / "cgroup.controllers").write_text("cpu io memory pids\n")
    assert cgroup_controllers(tmp_path / "v2") == ("v2", frozenset({"cpu", "io", "memory", "pids"}))
