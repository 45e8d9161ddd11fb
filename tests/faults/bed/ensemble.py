"""Three ZooKeeper servers that elect a leader, on loopback, to be killed and wiped."""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Final

from job_engine.queue.local import HOST, MAIN_CLASS, ask, die_with_parent, find_zookeeper

SIZE: Final = 3
QUORUM: Final = 2
TICK_MS: Final = 500

_CONFIG: Final = """\
tickTime={tick_ms}
initLimit=20
syncLimit=6
minSessionTimeout={min_session_ms}
maxSessionTimeout=60000
dataDir={data_dir}
clientPort={port}
clientPortAddress={host}
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=srvr,ruok
"""


def lasting_port() -> int:
    """Return a free port of loopback that stays free while its server is dead.

    The kernel gives none of this range to outgoing connections. One that is tried again
    and again could else be given the very port that it wants, and be connected to itself.
    """
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port


class Server:
    """One of them. A process that dies with the thread that started it."""

    def __init__(self, number: int, directory: Path) -> None:
        self.number = number
        self.port = lasting_port()
        self.peers = (lasting_port(), lasting_port())
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether its process is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self, members: str) -> None:
        """Start it; does not wait until it serves."""
        if self.running:
            return
        java, classpath = find_zookeeper()
        data = self._directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        (data / "myid").write_text(str(self.number))
        config = self._directory / "zoo.cfg"
        content = _CONFIG.format(
            tick_ms=TICK_MS,
            min_session_ms=2 * TICK_MS,
            data_dir=data,
            port=self.port,
            host=HOST,
        )
        config.write_text(content + members)
        command = [
            str(java),
            "-Xmx96m",
            "-Xshare:auto",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Djava.awt.headless=true",
            "-Dzookeeper.jmx.log4j.disable=true",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            # Only processes die here, never the machine.
            "-Dzookeeper.forceSync=no",
            "-cp",
            classpath,
            MAIN_CLASS,
            str(config),
        ]
        with (self._directory / "zookeeper.log").open("ab") as sink:
            self._process = subprocess.Popen(
                die_with_parent(command),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )

    def kill(self) -> None:
        """`kill -9`, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def wipe(self) -> None:
        """Forget everything; only while it does not run."""
        shutil.rmtree(self._directory / "data", ignore_errors=True)

    def mode(self) -> str:
        """`leader`, `follower`, or empty while it does not serve."""
        for line in ask(HOST, self.port, "srvr", timeout_s=0.5).splitlines():
            if line.startswith("Mode: "):
                return line.removeprefix("Mode: ")
        return ""


class Ensemble:
    """The three together. All of its processes die with the thread that starts them."""

    def __init__(self, directory: Path) -> None:
        self.servers = [Server(n, directory / f"zookeeper-{n}") for n in range(1, SIZE + 1)]

    @property
    def hosts(self) -> str:
        """Connection string that names all of them, without any proxy."""
        return ",".join(f"{HOST}:{server.port}" for server in self.servers)

    def start(self) -> None:
        """Start those that do not run; does not wait until they serve."""
        members = "".join(
            f"server.{s.number}={HOST}:{s.peers[0]}:{s.peers[1]}\n" for s in self.servers
        )
        for server in self.servers:
            server.start(members)

    def wait_serving(self, timeout_s: float = 60.0) -> None:
        """Wait until all three serve, one of them as the leader."""
        deadline = time.monotonic() + timeout_s
        while sorted(server.mode() for server in self.servers) != [*["follower"] * 2, "leader"]:
            assert time.monotonic() < deadline, "the ensemble does not serve"
            time.sleep(0.1)

    def leader(self) -> Server | None:
        """Who leads now; None while there is no quorum."""
        return next((s for s in self.servers if s.running and s.mode() == "leader"), None)

    def stop(self) -> None:
        """End all of them."""
        for server in self.servers:
            server.kill()

    def wipe(self) -> None:
        """Kill all three and delete what they know."""
        self.stop()
        for server in self.servers:
            server.wipe()
