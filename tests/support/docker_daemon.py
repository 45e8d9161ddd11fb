"""A Docker daemon of a test's own, to be killed and started again; never the machine's.

It has directories, a socket and a containerd to itself, and neither bridge nor firewall.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

import psutil

from job_engine.queue.local import die_with_parent

_QUIET: Final = (
    *("--bridge=none", "--iptables=false", "--ip6tables=false"),
    *("--ip-forward=false", "--ip-masq=false", "--log-level=warn"),
)
_DOCKERD: Final = "dockerd.pid"
_CONTAINERD: Final = "exec/containerd/containerd.pid"
"""Where the two write their process ids."""
_UP_S: Final = 60.0
_DOWN_S: Final = 20.0


def has_docker() -> bool:
    """Whether a daemon can be started here."""
    return all(shutil.which(name) for name in ("docker", "dockerd", "containerd", "runc"))


class PrivateDaemon:
    """The daemon; its containers outlive a `kill`, until it is started again.

    It runs in the network of the thread that starts it: one that is not the machine's,
    since a daemon without a bridge deletes the machine's `docker0`.
    """

    def __init__(self, directory: Path) -> None:
        # The path of a socket is short, and the directory of a test is not.
        self._run = Path(tempfile.mkdtemp(prefix="test-docker-"))
        self._data = directory / "docker"
        self._log = directory / "dockerd.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._wanted = False
        self.url = f"unix://{self._run}/socket"

    def __enter__(self) -> PrivateDaemon:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._reap(_DOWN_S)
        self.kill()
        for process in self._others():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in reversed(mounts):
            # Its data directory is a mount too, of itself.
            if f"{mount}/".startswith((f"{self._run}/", f"{self._data}/")):
                subprocess.run(["umount", "--lazy", mount], check=False)
        shutil.rmtree(self._run, ignore_errors=True)
        shutil.rmtree(self._data, ignore_errors=True)

    def start(self) -> None:
        """Start it, and wait until it answers; what ran under it before is dead then."""
        self.launch()
        deadline = time.monotonic() + _UP_S
        while not self._answers():
            assert self.runs, self._log.read_text()
            assert time.monotonic() < deadline, "the Docker daemon does not answer"
            time.sleep(0.05)

    def launch(self) -> None:
        """Start it; does not wait until it answers."""
        self.kill()
        self._wanted = True
        command = [*self._program(), *_QUIET, "--data-root", str(self._data)]
        command += ["--exec-root", f"{self._run}/exec", "--pidfile", f"{self._run}/{_DOCKERD}"]
        command += ["--host", self.url, *self._options()]
        with self._log.open("ab") as sink:
            self._process = subprocess.Popen(
                die_with_parent(command), stdin=subprocess.DEVNULL, stderr=sink
            )

    @property
    def runs(self) -> bool:
        """Whether its process is alive."""
        return self._process is not None and self._process.poll() is None

    def revive(self) -> bool:
        """Start it again if it ended by itself; return whether it had."""
        died = self._wanted and not self.runs
        if died:
            self.launch()
        return died

    def busy(self) -> bool:
        """Whether any container runs in it."""
        tasks = self._run / "exec/containerd/daemon/io.containerd.runtime.v2.task/moby"
        return tasks.is_dir() and any(tasks.iterdir())

    def kill(self) -> None:
        """`kill -9`; what runs in containers runs on, and nobody is told of its end."""
        self._wanted = False
        if self._process is not None:
            self._process.kill()
            self._reap(None)
            self._process = None
        # Or a new one would start while the old one still has the lock on what it knows.
        with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):
            containerd = psutil.Process(int((self._run / _CONTAINERD).read_text()))
            if any(str(self._run) in word for word in containerd.cmdline()):
                containerd.kill()
                containerd.wait(_DOWN_S)
        # Who reads these waits for a process that has the id by now, or is not reaped yet.
        for file in (_CONTAINERD, _DOCKERD):
            (self._run / file).unlink(missing_ok=True)

    def terminate(self) -> None:
        """Have it stop, with all containers; returns at once."""
        self._wanted = False
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def left(self) -> list[str]:
        """Containers and volumes that are there."""
        containers = self.ask("ps", "--all", "--format", "{{.Names}} {{.Status}}").splitlines()
        volumes = self.ask("volume", "ls", "--format", "{{.Name}}").splitlines()
        return [f"container {c}" for c in containers] + [f"volume {v}" for v in volumes]

    def ask(self, *words: str, stdin: subprocess.Popen[bytes] | None = None) -> str:
        """Run the client against it, and return what it prints."""
        command = ["docker", "--host", self.url, *words]
        source = subprocess.DEVNULL if stdin is None else stdin.stdout
        return subprocess.run(
            command, stdin=source, capture_output=True, text=True, check=True, timeout=_UP_S
        ).stdout

    def _program(self) -> list[str]:
        return [str(shutil.which("dockerd"))]

    def _options(self) -> list[str]:
        return []

    def _reap(self, timeout_s: float | None) -> None:
        assert self._process is not None
        self._process.wait(timeout_s)

    def _answers(self) -> bool:
        command = ["docker", "--host", self.url, "version"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _others(self) -> list[psutil.Process]:
        """Whatever belongs to it: containerd, and what holds its containers."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if any(str(self._run) in word for word in process.cmdline()):
                    found += [process, *process.children(recursive=True)]
        return found
