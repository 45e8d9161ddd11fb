"""Stopping while something that is needed is gone, hangs, or is just being connected to.

Nothing runs in these processes, so each has to end by itself within seconds, with 0.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from job_engine.queue.local import LocalZooKeeper
from tests.support.engine import SESSION_TIMEOUT_S, Engine, eventually, free_port

GRACE_S = 10.0
SERVICES = ("executor", "distributor")


def _pause(server: LocalZooKeeper) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)


def _start(engine: Engine, service: str) -> None:
    if service == "executor":
        engine.start_executor(threads=2)
    else:
        engine.start_distributor()


def _works(engine: Engine, service: str) -> bool:
    told = "executor.registered" if service == "executor" else "leader.elected"
    return told in engine.log(service)


def _stops(engine: Engine, service: str) -> None:
    began = time.monotonic()
    assert engine.stop(service, timeout_s=3 * GRACE_S) == 0, engine.log(service)
    assert time.monotonic() - began < GRACE_S, engine.log(service)
    assert "Traceback" not in engine.log(service)


@pytest.mark.parametrize("service", SERVICES)
def test_while_zookeeper_was_never_there(tmp_path: Path, service: str) -> None:
    with Engine(tmp_path, f"127.0.0.1:{free_port()}") as engine:
        engine.start_api()
        _start(engine, service)
        eventually(lambda: f"{service}.started" in engine.log(service))
        _stops(engine, service)


@pytest.mark.parametrize("service", SERVICES)
def test_while_neither_zookeeper_nor_api_is_there(tmp_path: Path, service: str) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / f"{service}.json").write_text('{"key": "credential/x", "secret": "y"}')
    with Engine(tmp_path, f"127.0.0.1:{free_port()}") as engine:
        _start(engine, service)
        eventually(lambda: f"{service}.started" in engine.log(service))
        _stops(engine, service)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("wait_s", [0.0, SESSION_TIMEOUT_S / 2, 1.5 * SESSION_TIMEOUT_S])
def test_while_zookeeper_hangs(
    tmp_path: Path, zookeeper: LocalZooKeeper, service: str, wait_s: float
) -> None:
    """Just now, while the session is silent, and after it is lost."""
    with Engine(tmp_path, zookeeper.hosts) as engine:
        engine.start()
        eventually(lambda: all(_works(engine, name) for name in SERVICES))
        _pause(zookeeper)
        time.sleep(wait_s)
        _stops(engine, service)


@pytest.mark.parametrize("service", SERVICES)
def test_while_zookeeper_is_gone(tmp_path: Path, zookeeper: LocalZooKeeper, service: str) -> None:
    with Engine(tmp_path, zookeeper.hosts) as engine:
        engine.start()
        eventually(lambda: all(_works(engine, name) for name in SERVICES))
        zookeeper.stop()
        eventually(lambda: "zookeeper.lost" in engine.log(service))
        _stops(engine, service)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_while_the_api_hangs_or_is_gone(
    tmp_path: Path, zk_hosts: str, service: str, number: int
) -> None:
    with Engine(tmp_path, zk_hosts) as engine:
        engine.start()
        eventually(lambda: all(_works(engine, name) for name in SERVICES))
        engine.signal("api", number)
        # Long enough for the distributor's next look at the store to be under way.
        time.sleep(1.0)
        _stops(engine, service)


@pytest.mark.parametrize("service", SERVICES)
def test_while_it_starts(tmp_path: Path, zk_hosts: str, service: str) -> None:
    with Engine(tmp_path, zk_hosts) as engine:
        engine.start_api()
        for delay_s in (0.0, 0.05, 0.2, 0.5):
            _start(engine, service)
            eventually(lambda: engine.log(service).count(f"{service}.started"))
            time.sleep(delay_s)
            _stops(engine, service)
            (tmp_path / f"{service}.log").unlink()
