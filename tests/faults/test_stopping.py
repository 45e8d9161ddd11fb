"""Stopping within the grace: whatever is gone, hangs, or is just being connected to.

Each test ill-treats one thing under an engine whose services are in every state that they
may be in, stops all of them at once, and holds each to `STOP_GRACE_S` and to exit code 0.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Final

import psutil
import pytest

from job_engine.api.server import EXIT_STUCK_STORE
from job_engine.errors import ApiError
from job_engine.queue.local import LocalZooKeeper
from job_engine.settings import STOP_GRACE_S
from tests import postgres
from tests.conftest import require
from tests.support.engine import SESSION_TIMEOUT_S, Engine, eventually, free_port
from tests.support.trace import ACTIONS_DIR, read_trace

DRAIN_S: Final = 1.0
SCRIPT: Final = Path(sys.executable).with_name("job-engine")


def stop_all(engine: Engine, names: list[str]) -> None:
    """SIGTERM all at once; each has to end by itself, in time, with 0."""
    began = time.monotonic()
    for name in names:
        engine.signal(name, signal.SIGTERM)
    took_s = {}
    left = set(names)
    while left and time.monotonic() - began < 4 * STOP_GRACE_S:
        for name in [n for n in left if engine.processes[n].poll() is not None]:
            took_s[name] = time.monotonic() - began
            left.remove(name)
        time.sleep(0.02)
    for name in names:
        grace_s = STOP_GRACE_S + (DRAIN_S if name in ("running", "draining") else 0.0)
        assert name in took_s, f"{name} still runs\n{engine.log(name)}"
        assert took_s[name] < grace_s, f"{name}: {took_s[name]:.1f} s\n{engine.log(name)}"
        assert engine.processes[name].returncode == 0, engine.log(name)
        # uvicorn tells of each request that it ends, with a traceback.
        assert name == "api" or "Traceback" not in engine.log(name), engine.log(name)


# --- while something goes -----------------------------------------------------


def _nothing(_engine: Engine, _zookeeper: LocalZooKeeper) -> None:
    return


def _zookeeper_killed(_engine: Engine, zookeeper: LocalZooKeeper) -> None:
    zookeeper.stop(timeout_s=0)


def _zookeeper_hangs(_engine: Engine, zookeeper: LocalZooKeeper) -> None:
    assert zookeeper.pid is not None
    os.kill(zookeeper.pid, signal.SIGSTOP)


def _api_killed(engine: Engine, _zookeeper: LocalZooKeeper) -> None:
    engine.kill("api")


def _api_hangs(engine: Engine, _zookeeper: LocalZooKeeper) -> None:
    engine.signal("api", signal.SIGSTOP)


def _both_hang(engine: Engine, zookeeper: LocalZooKeeper) -> None:
    _zookeeper_hangs(engine, zookeeper)
    _api_hangs(engine, zookeeper)


STATES: Final = ["elected", "not-elected", "idle", "running", "draining"]


def start_in_every_state(engine: Engine, trace: Path) -> None:
    """An elected distributor and one that is not; an executor in each state of its life."""
    engine.start_api()
    # Named, they are stood for at once, and not by both when an executor brings them.
    actions = ["trace", "noop", "cleanup_jobs"]
    engine.start_distributor("elected", actions=actions)
    eventually(lambda: engine.log("elected").count("leader.elected") == len(actions) + 1)
    engine.start_distributor("not-elected", actions=actions)
    api = engine.admin()
    for name in ("running", "draining"):
        # A job that ends in no time of this test's; each has one, for it has one thread.
        engine.start_executor(name, threads=1, drain_s=DRAIN_S, actions_dir=ACTIONS_DIR)
        engine.submit(api, "trace", {"file": str(trace), "seconds": 300})
    eventually(lambda: trace.exists() and len(read_trace(trace)) == 2)
    api.close()
    engine.start_executor("idle", threads=2, actions_dir=ACTIONS_DIR)
    eventually(lambda: "executor.registered" in engine.log("idle"))


@pytest.mark.parametrize(
    ("fault", "wait_s"),
    [
        (_nothing, 0.0),
        (_zookeeper_killed, 0.0),
        (_zookeeper_killed, 1.5 * SESSION_TIMEOUT_S),
        (_zookeeper_hangs, 0.0),
        (_zookeeper_hangs, SESSION_TIMEOUT_S / 2),
        (_zookeeper_hangs, 1.5 * SESSION_TIMEOUT_S),
        (_api_killed, 1.0),
        (_api_hangs, 0.0),
        (_api_hangs, 1.0),
        (_both_hang, 1.0),
    ],
)
def test_in_every_state_while(
    tmp_path: Path,
    zookeeper: LocalZooKeeper,
    fault: Callable[[Engine, LocalZooKeeper], None],
    wait_s: float,
) -> None:
    """Just now, while the session is silent, and after it is lost."""
    with Engine(tmp_path, zookeeper.hosts) as engine:
        start_in_every_state(engine, tmp_path / "trace")
        # In the middle of its drain when the fault comes.
        engine.signal("draining", signal.SIGTERM)
        eventually(lambda: "executor.draining" in engine.log("draining"))
        fault(engine, zookeeper)
        time.sleep(wait_s)
        stop_all(engine, [n for n in STATES if n != "draining"])
        assert engine.processes["draining"].wait(2 * STOP_GRACE_S) == 0, engine.log("draining")


# --- in the middle of connecting ----------------------------------------------


@contextmanager
def refusing() -> Iterator[int]:
    """A port that nobody listens on."""
    yield free_port()


@contextmanager
def mute() -> Iterator[int]:
    """A port that accepts, and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield server.getsockname()[1]


@contextmanager
def black_hole() -> Iterator[int]:
    """A port where connecting goes on for ever: its queue is full, and nobody empties it."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port: int = server.getsockname()[1]
        while True:
            client = stack.enter_context(socket.socket())
            client.settimeout(0.3)
            try:
                client.connect(("127.0.0.1", port))
            except TimeoutError:
                break
        yield port


@pytest.mark.parametrize("what", ["zookeeper", "api", "both"])
@pytest.mark.parametrize("hole", [refusing, mute, black_hole])
def test_in_the_middle_of_connecting(
    tmp_path: Path,
    zk_hosts: str,
    what: str,
    hole: Callable[[], AbstractContextManager[int]],
) -> None:
    credentials = tmp_path / "credentials"
    with hole() as port, Engine(tmp_path, zk_hosts) as engine:
        if what != "api":
            engine.zk_hosts = f"127.0.0.1:{port}"
        if what == "zookeeper":
            engine.start_api()
        else:
            engine.url = f"http://127.0.0.1:{port}"
            credentials.mkdir()
            for name in ("executor", "distributor"):
                (credentials / f"{name}.json").write_text('{"key": "credential/x", "secret": "y"}')
        engine.start_executor("executor", threads=1)
        engine.start_distributor("distributor")
        eventually(lambda: "executor.started" in engine.log("executor"))
        eventually(lambda: "distributor.started" in engine.log("distributor"))
        # Long enough to be in the middle of it, and not of the interpreter's start.
        time.sleep(0.5)
        stop_all(engine, ["executor", "distributor"])


def test_at_any_moment_of_its_start(tmp_path: Path, zk_hosts: str) -> None:
    with Engine(tmp_path, zk_hosts) as engine:
        engine.start_api()
        for delay_s in (0.0, 0.05, 0.2, 0.5):
            engine.start_executor("executor", threads=1)
            engine.start_distributor("distributor")
            eventually(lambda: "executor.started" in engine.log("executor"))
            eventually(lambda: "distributor.started" in engine.log("distributor"))
            time.sleep(delay_s)
            stop_all(engine, ["executor", "distributor"])
            for name in ("executor", "distributor"):
                (tmp_path / f"{name}.log").unlink()


# --- the API ------------------------------------------------------------------


def test_the_api_with_open_streams_and_a_client_that_trickles(tmp_path: Path) -> None:
    with Engine(tmp_path, "127.0.0.1:1") as engine, ExitStack() as stack:
        engine.start_api()
        api = engine.admin()
        for _ in range(3):
            stream = api.session.get(
                f"{engine.url}/api/engine/events", stream=True, timeout=(3, 60)
            )
            stack.callback(stream.close)
            assert stream.status_code == 200
        trickle = stack.enter_context(socket.create_connection(("127.0.0.1", engine.port)))
        trickle.sendall(b"POST /api/session HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        over = threading.Event()
        stack.callback(over.set)

        def drip() -> None:
            while not over.wait(0.1):
                try:
                    trickle.sendall(b" ")
                except OSError:
                    return

        threading.Thread(target=drip, daemon=True).start()
        silent = stack.enter_context(socket.create_connection(("127.0.0.1", engine.port)))
        silent.sendall(b"GET /api/")
        stop_all(engine, ["api"])


@pytest.mark.postgres
def test_the_api_on_a_database_that_hangs(tmp_path: Path) -> None:
    """Nothing ends the threads that wait for it, so the process ends with them."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(postgres.private_server())
        except postgres.NoPostgresError as error:
            require(False, str(error))
        url = stack.enter_context(postgres.database(server))
        engine = stack.enter_context(Engine(tmp_path, "127.0.0.1:1"))
        engine.start_api(database_url=postgres.text_of(url))
        api = engine.admin()
        (main,) = (
            process
            for process in psutil.Process().children()
            if str(server.query["host"]) in " ".join(process.cmdline())
        )
        for process in [main, *main.children()]:
            process.suspend()
            stack.callback(process.resume)

        def ask() -> None:
            with contextlib.suppress(ApiError):
                engine.submit(api, "noop")

        asking = threading.Thread(target=ask)
        asking.start()
        time.sleep(0.5)
        engine.signal("api", signal.SIGTERM)
        assert engine.processes["api"].wait(STOP_GRACE_S) == EXIT_STUCK_STORE, engine.log("api")
        api.close()
        asking.join(30)


# --- job-engine up ------------------------------------------------------------


@pytest.mark.parametrize("paused", [(), ("zookeeper",), ("api",), ("zookeeper", "api")], ids=str)
def test_up(tmp_path: Path, paused: tuple[str, ...]) -> None:
    """What hangs is killed after its grace; `up` waits for its layers one after the other."""
    environment = {**os.environ, "JOB_ENGINE_ADMIN_PASSWORD": "correct horse battery"}
    flags = ["--port", "0", "--sandbox", "none", "--drain-s", "0"]
    data = tmp_path / "data"
    with (tmp_path / "log").open("wb") as log:
        up = subprocess.Popen(
            [SCRIPT, "up", "--data-dir", data, *flags],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    children: list[psutil.Process] = []
    try:
        eventually((data / "run.json").exists, 60)
        children = psutil.Process(up.pid).children(recursive=True)
        for child in children:
            words = " ".join(child.cmdline())
            who = "zookeeper" if "QuorumPeer" in words else "api" if ".api" in words else ""
            if who in paused:
                child.suspend()
        began = time.monotonic()
        up.terminate()
        assert up.wait(120) == 0, (tmp_path / "log").read_text()
        # The executors and the distributor hold to their grace; what is paused is killed.
        killed_s = {"api": 1.5 * STOP_GRACE_S, "zookeeper": 5.0}
        grace_s = 2 * STOP_GRACE_S + sum(killed_s[who] for who in paused)
        assert time.monotonic() - began < grace_s, (tmp_path / "log").read_text()
        eventually(lambda: not any(c.is_running() and c.status() != "zombie" for c in children))
    finally:
        up.kill()
        up.wait()
        for child in children:
            if child.is_running():
                child.kill()
