"""A whole engine of real processes on loopback, for tests that look at it from outside."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

import requests

from job_engine.client import Api

ADMIN_PASSWORD: Final = "correct horse battery staple"
SESSION_TIMEOUT_S: Final = 4.0

T = TypeVar("T")


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(look: Callable[[], T], timeout_s: float = 30.0, what: str = "") -> T:
    """Return the first true value that `look` returns; fails after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not (value := look()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what or look}"
        time.sleep(0.05)
    return value


class Engine:
    """Starts, kills, pauses and stops the processes of one engine; `with` ends them all.

    Every process logs to `<directory>/<name>.log`.
    """

    def __init__(self, directory: Path, zk_hosts: str) -> None:
        self.directory = directory
        self.zk_hosts = zk_hosts
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
        for process in self.processes.values():
            process.wait(10)

    # --- processes ------------------------------------------------------------

    def spawn(self, name: str, module: str, /, **settings: object) -> subprocess.Popen[bytes]:
        """Start a process of the engine under `name`, with settings as environment."""
        environment = {
            **os.environ,
            **self.environment(name),
            "JOB_ENGINE_API_URL": self.url,
            "JOB_ENGINE_ZK_HOSTS": self.zk_hosts,
            "JOB_ENGINE_ZK_SESSION_TIMEOUT_S": str(SESSION_TIMEOUT_S),
            "JOB_ENGINE_SCRATCH_DIR": str(self.directory / "scratch"),
            **{f"JOB_ENGINE_{key.upper()}": _text(value) for key, value in settings.items()},
        }
        with (self.directory / f"{name}.log").open("ab") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", module], env=environment, stdout=sink, stderr=sink
            )
        self.processes[name] = process
        return process

    def environment(self, name: str) -> Mapping[str, str]:
        """Return what a process is started with beside its settings; for subclasses."""
        return {}

    def start_api(self, **settings: object) -> None:
        """Start the API, and wait until it answers."""
        process = self.spawn(
            "api",
            "job_engine.api",
            data_dir=self.directory / "data",
            credentials_dir=self.directory / "credentials",
            port=self.port,
            admin_password=ADMIN_PASSWORD,
            **settings,
        )
        eventually(lambda: self._answers() or process.poll() is not None, 90, "API ready")
        assert process.poll() is None, self.log("api")

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/api/health/ready", timeout=2).status_code == 200
        except requests.RequestException:
            return False

    def start_distributor(self, name: str = "distributor", /, **settings: object) -> None:
        """Start a distributor."""
        self.spawn(
            name,
            "distributor",
            name=name,
            credentials_file=self.directory / "credentials" / "distributor.json",
            **settings,
        )

    def start_executor(self, name: str = "executor", /, **settings: object) -> None:
        """Start an executor."""
        self.spawn(
            name,
            "executor",
            name=name,
            credentials_file=self.directory / "credentials" / "executor.json",
            **settings,
        )

    def start(self, **executor: object) -> None:
        """Start one of each."""
        self.start_api()
        self.start_distributor()
        self.start_executor("executor", **executor)

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a process."""
        self.processes[name].send_signal(number)

    def kill(self, name: str) -> None:
        """`kill -9` a process, and wait until it is gone."""
        self.processes[name].kill()
        self.processes[name].wait(10)

    def stop(self, name: str, timeout_s: float = 20.0) -> int:
        """SIGTERM a process, and return its exit code."""
        self.signal(name, signal.SIGTERM)
        return self.processes[name].wait(timeout_s)

    def log(self, name: str) -> str:
        """What a process logged so far."""
        return (self.directory / f"{name}.log").read_text(errors="replace")

    # --- the client's side ----------------------------------------------------

    def admin(self) -> Api:
        """A client that is logged in as `admin`."""
        api = Api(self.url)
        response = api.login_password("admin", ADMIN_PASSWORD)
        assert response.status_code == 201, response.text
        return api

    def submit(self, api: Api, action: str, payload: Mapping[str, object] | None = None) -> str:
        """Create a job, and return its id."""
        document: dict[str, object] = {"action": action}
        if payload is not None:
            document["payload"] = json.dumps(payload)
        return str(api.add("job", document).data["resource-id"])

    def states(self, api: Api) -> dict[str, str]:
        """The state of every job that the test made, by id."""
        # The engine makes jobs of its own, by schedule.
        found = api.search("job", select="id,state", last=10_000, filter="action!='cleanup_jobs'")
        return {r.data["id"]: r.data["state"] for r in found.resources}

    def wait_final(self, api: Api, count: int, timeout_s: float = 60.0) -> dict[str, str]:
        """Wait until `count` jobs are final, and return the states of all."""

        def look() -> dict[str, str] | None:
            states = self.states(api)
            final = [s for s in states.values() if s in ("SUCCESS", "FAILED", "CANCELED")]
            return states if len(final) >= count else None

        return eventually(look, timeout_s, f"{count} final jobs") or {}


def _text(value: object) -> str:
    return json.dumps(value) if isinstance(value, list | dict) else str(value)
