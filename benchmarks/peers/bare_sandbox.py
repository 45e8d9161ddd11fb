"""The bare runtimes: what it takes to run the phases' programs one after another, and no more.

Docker: each container created, started, waited for and removed by docker-py, with the very
configuration that the engine gives a phase (limits, seccomp, read-only root), but for the
trees, the holder's network and the wait for a go. bubblewrap: `bwrap` with namespaces of its
own, by `subprocess`. Neither meters, caps output, hands anything over or keeps a disk limit.
"""

from __future__ import annotations

import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

import docker

from job_engine.sandbox.base import PhaseSpec
from job_engine.sandbox.docker import confine
from job_engine.sandbox.docker.daemon import Daemon
from job_engine.sandbox.docker.images import Images
from job_engine.settings import SandboxSettings

_BWRAP: Final = (
    *("bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"),
    *("--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib"),
    *("--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"),
    *("--setenv", "PATH", "/usr/bin", "--"),
)


class BareSandbox(ABC):
    """Runs a submission's programs."""

    name: str

    @abstractmethod
    def run(self) -> float:
        """Run them one after another; returns milliseconds, until nothing is left."""


class BareDocker(BareSandbox):
    """A container for each phase."""

    name = "bare docker"

    def __init__(self, settings: SandboxSettings, phases: Sequence[PhaseSpec]) -> None:
        self._settings = settings
        self._phases = phases

    @cached_property
    def _client(self) -> Any:
        return docker.APIClient(version="auto", max_pool_size=16)

    @cached_property
    def _configs(self) -> list[dict[str, Any]]:
        daemon = Daemon(self._settings)
        image = Images(daemon, self._settings).find(str(self._settings.default_image))
        place = confine.Place(slot="bare", uid=self._settings.docker_uid_base, labels={})
        cores = int(daemon.info["NCPU"])
        daemon.close()
        return [
            confine.phase_container(phase, image, place, (), cores=cores, wait_script="")
            | {"Entrypoint": [phase.command[0]], "Cmd": list(phase.command[1:])}
            | {"OpenStdin": False, "StdinOnce": False, "AttachStdin": False}
            for phase in self._phases
        ]

    def run(self) -> float:
        """See `BareSandbox`."""
        configs, client = self._configs, self._client
        began = time.monotonic()
        for config in configs:
            container = client.create_container_from_config(config)["Id"]
            client.start(container)
            client.wait(container)
            client.remove_container(container, force=True, v=True)
        return (time.monotonic() - began) * 1000


class BareBubblewrap(BareSandbox):
    """A `bwrap` for each phase."""

    name = "bare bwrap"

    def __init__(self, command: Sequence[str], phases: int = 4) -> None:
        self._command = [*_BWRAP, *command]
        self._phases = phases

    def run(self) -> float:
        """See `BareSandbox`."""
        began = time.monotonic()
        for _ in range(self._phases):
            subprocess.run(self._command, check=True, capture_output=True)
        return (time.monotonic() - began) * 1000
