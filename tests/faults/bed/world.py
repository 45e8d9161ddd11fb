"""The processes under test, and the places where they can be hurt.

Every distributor and executor has two links of its own: one to the ensemble, one to the
API. Executors have a small file system each as scratch. Whatever ends by itself is
started again, as a supervisor would, and noted as a death.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sqlite3
import subprocess
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import psutil

from tests.faults.bed.boxes import IMAGE, Boxes
from tests.faults.bed.clocks import Clocks
from tests.faults.bed.docker import DockerDaemon
from tests.faults.bed.ensemble import Ensemble, lasting_port
from tests.faults.bed.journal import Journal, Restore
from tests.faults.bed.proxy import Conduct, Link, Proxies
from tests.support.engine import ADMIN_PASSWORD, Engine, eventually
from tests.support.trace import ACTIONS_DIR

THREADS: Final = 8
API_RETRY_S: Final = 4.0
START_S: Final = 120.0
"""Seconds that a busy machine may take to start all at once."""
API: Final = "api"
ZYGOTE: Final = "job_engine.sandbox.bubblewrap.zygote"
_SCRATCH_OPTIONS: Final = "size=4m,nr_inodes=256,mode=755"


class World(Engine):
    """All processes of the engine, on an ensemble, behind links."""

    def __init__(
        self,
        directory: Path,
        ensemble: Ensemble,
        proxies: Proxies,
        boxes: Boxes,
        docker: DockerDaemon | None,
        journal: Journal,
    ) -> None:
        super().__init__(directory, ensemble.hosts)
        self.port = lasting_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.ensemble = ensemble
        self.docker = docker
        self.journal = journal
        self.clocks = Clocks(directory)
        self._boxes = boxes
        self._proxies = proxies
        # One of a kind on this machine: what sandboxes leave behind is found by it.
        mark = uuid.uuid4().hex[:6]
        self.distributors = [f"d{n}-{mark}" for n in (1, 2)]
        self.executors = [f"e{n}-{mark}" for n in (1, 2, 3)]
        self.in_docker = self.executors[-1:] if docker is not None else []
        """Executors whose sandboxes are Docker's; those of the others are bubblewrap's."""
        self.services = [*self.distributors, *self.executors]
        zk_ports = [server.port for server in ensemble.servers]
        self.zk_links = {name: proxies.link(*zk_ports) for name in self.services}
        self.api_links = {name: proxies.link(self.port) for name in [*self.services, "client"]}
        self._down: set[str] = set()
        self._copy: tuple[float, float] | None = None

    def __enter__(self) -> World:
        self.clocks.make()
        for name in self.executors:
            self.scratch(name).mkdir(parents=True)
            command = ["mount", "-t", "tmpfs", "-o", _SCRATCH_OPTIONS, "tmpfs"]
            subprocess.run([*command, str(self.scratch(name))], check=True)
        return self

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        for name in self.executors:
            subprocess.run(["umount", "--lazy", str(self.scratch(name))], check=False)

    # --- processes ------------------------------------------------------------

    def environment(self, name: str) -> Mapping[str, str]:
        """Give each process a wall clock of its own."""
        return self.clocks.environment(name)

    def start_one(self, name: str) -> None:
        """Start a process by its name; does not wait until it is ready."""
        if name == API:
            process = self.spawn(
                API,
                "job_engine.api",
                data_dir=self.directory / "data",
                credentials_dir=self.directory / "credentials",
                port=self.port,
                admin_password=ADMIN_PASSWORD,
            )
        elif name in self.distributors:
            process = self.spawn(name, "distributor", **self._service(name, "distributor"))
        else:
            process = self.spawn(
                name,
                "executor",
                **self._service(name, "executor"),
                threads=THREADS,
                actions_dir=ACTIONS_DIR,
                default_image=IMAGE,
                **self._sandbox(name),
                scratch_dir=self.scratch(name),
                bundle_cache_dir=self.directory / "bundles",
                api_retry_s=API_RETRY_S,
                drain_s=30,
            )
        self._down.discard(name)
        self.journal.started(name, process.pid)

    def _sandbox(self, name: str) -> dict[str, object]:
        if self.docker is not None and name in self.in_docker:
            return {"sandbox": "docker", "docker_url": self.docker.url}
        return {"sandbox": "bubblewrap", "rootfs_dir": self._boxes.rootfs_dir}

    def _service(self, name: str, kind: str) -> dict[str, object]:
        more = {"reconcile_s": 10, "poll_s": 2} if kind == "distributor" else {}
        return {
            "name": name,
            "zk_hosts": self.zk_links[name].hosts,
            "api_url": f"http://{self.api_links[name].hosts}",
            "credentials_file": self.directory / "credentials" / f"{kind}.json",
            **more,
        }

    def start_all(self) -> None:
        """Start everything, and wait until it works."""
        self.ensemble.start()
        self.start_one(API)
        self.ensemble.wait_serving()
        eventually(self._answers, START_S, "API ready")
        for name in self.services:
            self.start_one(name)
        for name in self.executors:
            eventually(lambda name=name: self._registered(name), START_S, name)  # type: ignore[misc]

    def _registered(self, name: str) -> bool:
        assert self.runs(name), self.log(name)
        return "executor.registered" in self.log(name)

    def kill_one(self, name: str) -> None:
        """`kill -9`; it stays down until it is started again."""
        self._down.add(name)
        self.kill(name)

    def ask_to_stop(self, name: str) -> None:
        """SIGTERM; it stays down until it is started again."""
        self._down.add(name)
        self.signal(name, signal.SIGTERM)

    def start_over(self, name: str) -> None:
        """Start who was asked to stop; kill it if it still does, and note any code but 0."""
        code = self.processes[name].poll()
        if code is None:
            self.kill(name)
        elif code != 0:
            self.journal.died(name, self.pid(name), code)
        self.start_one(name)

    def runs(self, name: str) -> bool:
        """Whether a process is alive, or stopped."""
        return self.processes[name].poll() is None

    def pid(self, name: str) -> int:
        """Process id of the newest process of this name."""
        return self.processes[name].pid

    def revive(self) -> None:
        """Start again what ended by itself."""
        if self.docker is not None and self.docker.revive():
            self.journal.note("docker-died")
        for name, process in list(self.processes.items()):
            code = process.poll()
            if code is not None and name not in self._down:
                self.journal.died(name, process.pid, code)
                self.start_one(name)

    def stop_all(self, timeout_s: float = 60.0) -> dict[str, int]:
        """SIGTERM executors, then distributors, then the API; return exit codes.

        What does not stop in time is killed, which its code tells.
        """
        codes = {}
        for group in (self.executors, self.distributors, [API]):
            for name in group:
                self.signal(name, signal.SIGTERM)
            for name in group:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.processes[name].wait(timeout_s)
                self.kill(name)
                codes[name] = self.processes[name].returncode
        return codes

    # --- links ----------------------------------------------------------------

    def conduct(self, link: Link, conduct: Conduct) -> None:
        """Have a link behave like that from now on."""
        self._proxies.conduct(link, conduct)

    # --- the leader -----------------------------------------------------------

    def leading(self) -> list[str]:
        """Distributors that said last that they lead something; a guess is good enough."""
        return [
            name
            for name in self.distributors
            if self.log(name).count("leader.elected") > self.log(name).count("leader.resigned")
        ]

    # --- the store ------------------------------------------------------------

    @property
    def store(self) -> Path:
        """The API's database."""
        return self.directory / "data" / "store.sqlite"

    def copy_store(self) -> None:
        """Take a copy while the API runs, as a backup would."""
        began_at = time.monotonic()
        target = self.directory / "copy.sqlite"
        target.unlink(missing_ok=True)
        with (
            contextlib.closing(sqlite3.connect(self.store, timeout=30)) as source,
            contextlib.closing(sqlite3.connect(target)) as sink,
        ):
            source.backup(sink)
        self._copy = (began_at, time.monotonic())

    def restore_store(self) -> None:
        """Kill the API, put the copy in its store's place, and start it."""
        assert self._copy is not None
        down_at = time.monotonic()
        self.kill_one(API)
        for file in self.store.parent.glob("store.sqlite*"):
            file.unlink()
        os.rename(self.directory / "copy.sqlite", self.store)
        copy, self._copy = self._copy, None
        self.journal.restored(Restore(*copy, down_at=down_at, up_at=time.monotonic()))
        self.start_one(API)

    # --- the executors' disks and sandboxes -----------------------------------

    def scratch(self, name: str) -> Path:
        """The file system that an executor has as scratch."""
        return self.directory / "scratch" / name

    def fill_disk(self, name: str, *, inodes: bool) -> None:
        """Leave no byte, or no inode, of an executor's scratch."""
        ballast = self.scratch(name) / "ballast"
        ballast.mkdir(exist_ok=True)
        try:
            for number in range(1 << 20):
                file = ballast / f"{number}"
                file.write_bytes(b"" if inodes else bytes(1 << 16))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise

    def free_disk(self, name: str) -> None:
        """Give it back."""
        subprocess.run(["rm", "-rf", str(self.scratch(name) / "ballast")], check=True)

    def zygotes(self, name: str) -> list[psutil.Process]:
        """What starts an executor's sandboxes; none before the first one."""
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.pid(name)).children()
            return [child for child in children if ZYGOTE in child.cmdline()]
        return []

    def holders(self, name: str) -> list[psutil.Process]:
        """What holds an executor's slots; none while it has no slot."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return [holder for zygote in self.zygotes(name) for holder in zygote.children()]
        return []
