"""A local ZooKeeper server as a child process, for `job-engine up`, demos and tests.

It listens on loopback only and keeps everything it writes below one directory. Stopping
and starting the same object keeps port and data, so a restart of ZooKeeper can be tried.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from job_engine.errors import MissingDependencyError, QueueError
from job_engine.log import get_logger

log = get_logger(__name__)

HOST: Final = "127.0.0.1"
REMEDY: Final = "apt-get install --no-install-recommends default-jre-headless libzookeeper-java"
DEBIAN_JARS: Final = Path("/usr/share/java")
MAIN_CLASS: Final = "org.apache.zookeeper.server.quorum.QuorumPeerMain"

# The manifest of Debian's jar names its dependencies; slf4j-simple writes the log to stderr.
_DEBIAN_CLASSPATH: Final = ("zookeeper.jar", "slf4j-simple.jar")

# Set in the new process itself, and not by `preexec_fn`, which may deadlock in a parent
# that has threads.
_DIE_WITH_PARENT: Final = """
import ctypes, os, signal, sys
ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone already")
os.execv(sys.argv[2], sys.argv[2:])
"""

_CONFIG: Final = """\
tickTime={tick_ms}
minSessionTimeout={min_session_ms}
maxSessionTimeout={max_session_ms}
dataDir={data_dir}
clientPort={port}
clientPortAddress={host}
maxClientCnxns={max_client_connections}
admin.enableServer=false
4lw.commands.whitelist=srvr,ruok,mntr,stat,cons,wchs
autopurge.snapRetainCount=3
autopurge.purgeInterval=1
"""


class LocalZooKeeper:
    """A standalone ZooKeeper on loopback, as a child of this process.

    Args:
        data_dir: directory of its data, its configuration and its log.
        port: 0 is any free port, chosen at the first start and kept from then on.
        sync: whether a write is on disk before it is acknowledged. False is for tests,
            which kill processes but never the machine.
        home: an unpacked ZooKeeper release; None: Debian's package, or the release whose
            `zkServer.sh` is on the PATH.
        max_client_connections: for each address; 0: no limit.
        holds: descriptors that the server inherits, and with them the locks on these files.

    Sessions may be as short as two ticks. The server ends with the thread that started it,
    so start it from a thread that lives as long as the server has to.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int = 0,
        *,
        tick_ms: int = 500,
        max_client_connections: int = 0,
        heap_mb: int = 256,
        sync: bool = True,
        home: Path | None = None,
        jvm_options: Sequence[str] = (),
        holds: Sequence[int] = (),
    ) -> None:
        self.data_dir = data_dir
        self.port = port
        self.tick_ms = tick_ms
        self._max_client_connections = max_client_connections
        self._heap_mb = heap_mb
        self._sync = sync
        self._home = home
        self._jvm_options = tuple(jvm_options)
        self._holds = tuple(holds)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def hosts(self) -> str:
        """Connection string, `127.0.0.1:<port>`; known once started."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Process id of the running server; None while there is none."""
        return None if self._process is None else self._process.pid

    @property
    def log_file(self) -> Path:
        """File that gets the server's output."""
        return self.data_dir / "zookeeper.log"

    def running(self) -> bool:
        """Whether the server's process is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self, timeout_s: float = 30.0) -> None:
        """Start the server and wait until it serves. Does nothing while it runs.

        Raises `MissingDependencyError` without Java or ZooKeeper, `QueueError` with the
        end of the server's log when it does not serve within `timeout_s`.
        """
        if self.running():
            return
        command = self._command()
        deadline = time.monotonic() + timeout_s
        chosen_here = self.port == 0
        while True:
            if chosen_here:
                self.port = free_port()
            self._spawn(command)
            if self._wait_until_serving(deadline):
                log.debug("zookeeper.started", hosts=self.hosts, pid=self.pid)
                return
            tail = self._log_tail()
            self.stop(timeout_s=0)
            # The port may have been taken in the meantime; then try another.
            if not (chosen_here and "Address already in use" in tail) or _late(deadline):
                raise QueueError(
                    f"ZooKeeper did not start on {self.hosts}. The end of {self.log_file}:\n{tail}"
                )

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ask the server to end, and kill it after `timeout_s`. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _spawn(self, command: Sequence[str]) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        config = self.data_dir / "zoo.cfg"
        config.write_text(
            _CONFIG.format(
                tick_ms=self.tick_ms,
                min_session_ms=2 * self.tick_ms,
                max_session_ms=max(60_000, 20 * self.tick_ms),
                data_dir=(self.data_dir / "data").absolute(),
                port=self.port,
                host=HOST,
                max_client_connections=self._max_client_connections,
            )
        )
        if self.log_file.exists():
            self.log_file.rename(self.log_file.with_suffix(".log.1"))
        with self.log_file.open("wb") as output:
            self._process = subprocess.Popen(
                die_with_parent([*command, str(config)]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C must not reach it: the supervisor stops ZooKeeper last.
                start_new_session=True,
                pass_fds=self._holds,
            )

    def _command(self) -> list[str]:
        java, classpath = find_zookeeper(self._home)
        return [
            str(java),
            f"-Xmx{self._heap_mb}m",
            "-Xshare:auto",
            "-XX:+UseSerialGC",
            "-Djava.awt.headless=true",
            "-Dzookeeper.jmx.log4j.disable=true",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSX",
            f"-Dzookeeper.forceSync={'yes' if self._sync else 'no'}",
            *self._jvm_options,
            "-cp",
            classpath,
            MAIN_CLASS,
        ]

    def _wait_until_serving(self, deadline: float) -> bool:
        """True once the server answers; False when its process ended or time is up."""
        while self.running() and not _late(deadline):
            # A question that comes too early is never answered, so ask again soon.
            if "Mode: standalone" in ask(HOST, self.port, "srvr", timeout_s=0.2):
                return True
            time.sleep(0.02)
        return False

    def _log_tail(self, lines: int = 15) -> str:
        text = self.log_file.read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:]) or "(it printed nothing)"


def die_with_parent(command: Sequence[str]) -> list[str]:
    """Return a command that runs `command` (an absolute path first) and dies with its parent.

    The kernel sends it SIGTERM when the thread that started it ends.
    """
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]


def find_zookeeper(home: Path | None = None) -> tuple[Path, str]:
    """Return the Java binary and the class path that run a ZooKeeper server here.

    Raises `MissingDependencyError`, with the remedy, when either is not installed.
    """
    java = shutil.which("java")
    if java is None:
        raise MissingDependencyError(f"Java is not installed; ZooKeeper needs it. Try: {REMEDY}")
    if home is None and (DEBIAN_JARS / "zookeeper.jar").exists():
        return Path(java), ":".join(str(DEBIAN_JARS / jar) for jar in _DEBIAN_CLASSPATH)
    script = shutil.which("zkServer.sh")
    if home is None and script is not None:
        home = Path(script).resolve().parent.parent
    if home is None or not any(home.rglob("zookeeper*.jar")):
        where = "ZooKeeper is not installed" if home is None else f"No ZooKeeper in {home}"
        raise MissingDependencyError(f"{where}. Try: {REMEDY}")
    return Path(java), f"{home}/lib/*:{home}/*:{home}/conf"


def ask(host: str, port: int, command: str, timeout_s: float = 2.0) -> str:
    """Return what ZooKeeper answers to a four-letter command; empty when it does not."""
    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            connection.sendall(command.encode())
            chunks = iter(lambda: connection.recv(4096), b"")
            return b"".join(chunks).decode(errors="replace")
    except OSError:
        return ""


def free_port() -> int:
    """Return a loopback TCP port that is free at the moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _late(deadline: float) -> bool:
    return time.monotonic() >= deadline
