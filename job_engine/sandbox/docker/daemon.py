"""The Docker daemon: one client, in which every call has a timeout and raises one error type."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cached_property
from typing import Any, Final

import requests
import urllib3
from docker import APIClient
from docker.constants import MINIMUM_DOCKER_API_VERSION
from docker.errors import APIError, DockerException, NotFound
from docker.tls import TLSConfig

from job_engine.errors import SandboxError
from job_engine.sandbox.docker.attach import AttachedStream
from job_engine.settings import SandboxSettings

LABEL: Final = "job-engine.label"
SLOT_LABEL: Final = "job-engine.slot"

_SOCKET: Final = "/var/run/docker.sock"
_POOL_SIZE: Final = 64
"""Idle connections kept. Each running phase holds two (attach, wait); more are opened on demand."""

_CONFLICT: Final = 409
_TOLD_LATE_S: Final = 0.2
"""Docker may date the event of a kill up to this many seconds after the container's end."""
_DAEMON_ERRORS: Final = (
    DockerException,
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    OSError,
)


class GoneError(SandboxError):
    """The container, volume or image is not there."""


class Daemon:
    """The calls that the backend makes to Docker; connects at the first one.

    Every method raises `SandboxError` (`GoneError` where the thing is not there), naming
    what was being done; a daemon that does not answer in time counts as broken.
    """

    def __init__(self, settings: SandboxSettings) -> None:
        self._url = settings.docker_url
        self._tls_dir = settings.docker_tls_dir
        self._timeout_s = settings.docker_timeout_s
        self._lock = threading.Lock()
        self._client: APIClient | None = None

    @property
    def api(self) -> APIClient:
        """The client; wrap calls on it in `doing`."""
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            client = self._client
        self._knock()
        return client

    @cached_property
    def info(self) -> Mapping[str, Any]:
        """The daemon's information about itself and its host."""
        with doing("ask the Docker daemon about itself"):
            return dict(self.api.info())

    @property
    def is_local(self) -> bool:
        """True for a daemon behind a Unix socket: of this host, though maybe not this container."""
        return self._url is None or self._url.startswith("unix:")

    def close(self) -> None:
        """Close every idle connection. Idempotent."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def create(self, name: str, config: Mapping[str, Any]) -> str:
        """Create a container and return its id."""
        with doing(f"create container {name}"):
            api: Any = self.api
            return str(api.create_container_from_config(dict(config), name)["Id"])

    def attach(self, container: str, *, stdin: bool) -> AttachedStream:
        """Attach to a container that has not been started, so that no output is missed."""
        params = {"stdout": 1, "stderr": 1, "stream": 1, "stdin": int(stdin)}
        with doing("attach to a container"):
            return AttachedStream(self.api.attach_socket(container, params=params))

    def start(self, container: str) -> None:
        """Start a container; returns when its process runs."""
        with doing("start a container"):
            self.api.start(container)

    def wait(self, container: str, timeout_s: float) -> int:
        """Return the exit status of a container once all of its processes are dead."""
        with doing("wait for a container"):
            return int(self.api.wait(container, timeout=int(timeout_s) + 1)["StatusCode"])

    def confirm(self) -> None:
        """Raise `SandboxError` unless the daemon takes new connections.

        A stopping daemon accepts none, then kills all containers, and reports that on existing
        connections as if another client had killed the programs.
        """
        with (
            doing("say whether it stops"),
            contextlib.closing(self._client_of(self.api.api_version)) as probe,
        ):
            probe.ping()

    def inspect(self, container: str) -> Mapping[str, Any]:
        """Return what the daemon knows of a container."""
        with doing("inspect a container"):
            return dict(self.api.inspect_container(container))

    def was_ordered(self, container: str, state: Mapping[str, Any], order: str) -> bool:
        """Whether the daemon was asked to `kill` or `pause` a container, which has ended.

        `state` is what `inspect` says of it. The daemon remembers its last 256 events.
        """
        began, ended = (datetime.fromisoformat(state[at]) for at in ("StartedAt", "FinishedAt"))
        with doing("list its events"):
            api = self.api
            params = {
                "since": f"{began.timestamp():.6f}",
                "until": f"{ended.timestamp() + _TOLD_LATE_S:.6f}",
                "filters": json.dumps({"container": [container], "event": [order]}),
            }
            url = f"{api.base_url}/v{api.api_version}/events"
            with api.get(url, params=params, timeout=self._timeout_s) as response:
                response.raise_for_status()
                return bool(response.content.strip())

    def written_directory(self, container: str) -> str | None:
        """Return the directory of a container's own files on this host; None: not visible."""
        driver = self.inspect(container)["GraphDriver"]
        upper = (driver.get("Data") or {}).get("UpperDir")
        # With a remote daemon, a directory of the same name here would be another one.
        seen = self.is_local and upper and os.access(upper, os.R_OK | os.X_OK)
        return str(upper) if seen else None

    def written_bytes(self, container: str) -> int:
        """Return what a container has written into its root file system."""
        with doing("measure a container"):
            api = self.api
            url = f"{api.base_url}/v{api.api_version}/containers/{container}/json"
            with api.get(url, params={"size": "1"}) as response:
                response.raise_for_status()
                return int(response.json().get("SizeRw") or 0)

    def commit(self, container: str, name: str) -> None:
        """Make an image of the root file system of a container that has ended."""
        repository, _, tag = name.partition(":")
        with doing(f"keep {name}"):
            self.api.commit(container, repository=repository, tag=tag)

    def remove_image(self, name: str) -> None:
        """Remove an image; gone is fine, and so is one in use, which stays."""
        try:
            with contextlib.suppress(GoneError), doing(f"remove image {name}"):
                self.api.remove_image(name)
        except SandboxError as error:
            if _status(error) != _CONFLICT:
                raise

    def kill(self, container: str) -> bool:
        """Kill a container; False when it does not run (yet, or any more)."""
        try:
            with doing("kill a container"):
                self.api.kill(container, signal="SIGKILL")
        except GoneError:
            return False
        except SandboxError as error:
            if _status(error) == _CONFLICT:
                return False
            raise
        return True

    def remove(self, container: str) -> None:
        """Kill and remove a container with its anonymous volumes; gone is fine."""
        with contextlib.suppress(GoneError), doing("remove a container"):
            self.api.remove_container(container, force=True, v=True)

    def create_volume(self, name: str, options: str, labels: Mapping[str, str]) -> None:
        """Create a tmpfs volume with these mount options."""
        driver = {"type": "tmpfs", "device": "tmpfs", "o": options}
        with doing(f"create volume {name}"):
            self.api.create_volume(name, driver="local", driver_opts=driver, labels=dict(labels))

    def remove_volume(self, name: str) -> None:
        """Remove a volume; gone is fine."""
        with contextlib.suppress(GoneError), doing(f"remove volume {name}"):
            self.api.remove_volume(name)

    def labelled(self, filters: list[str]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """Return (id, slot) of each container and (name, slot) of each volume with these labels."""
        query = {"label": filters}
        with doing("list what slots left behind"):
            containers = self.api.containers(all=True, filters=query)
            volumes = self.api.volumes(filters=query).get("Volumes") or []
        return (
            [(str(item["Id"]), str(item["Labels"].get(SLOT_LABEL, ""))) for item in containers],
            [(str(item["Name"]), str(item["Labels"].get(SLOT_LABEL, ""))) for item in volumes],
        )

    def _client_of(self, version: str) -> APIClient:
        """Make a client, which connects at its first call."""
        tls: TLSConfig | bool = False
        if self._tls_dir is not None:
            cert, key = self._tls_dir / "cert.pem", self._tls_dir / "key.pem"
            tls = TLSConfig(
                client_cert=(str(cert), str(key)), ca_cert=str(self._tls_dir / "ca.pem")
            )

        timeout = round(self._timeout_s)
        client = APIClient(
            self._url, version=version, timeout=timeout, tls=tls, max_pool_size=_POOL_SIZE
        )
        if self.is_local:
            # No proxy is between: nothing of the environment has to be read for each request.
            client.trust_env = False
        return client

    def _connect(self) -> APIClient:
        try:
            return self._connected()
        except SandboxError as error:
            raise SandboxError(
                f"{error.message}. See whether it runs, whether JOB_ENGINE_DOCKER_URL names it, "
                "and whether this user may use its socket."
            ) from error

    def _connected(self) -> APIClient:
        with doing(f"connect to the Docker daemon at {self._url or f'unix://{_SOCKET}'}"):
            self._knock()
            # docker-py would ask for the version itself, and leak its sockets on failure.
            with contextlib.closing(self._client_of(MINIMUM_DOCKER_API_VERSION)) as probe:
                version = str(probe.version(api_version=False)["ApiVersion"])
            return self._client_of(version)

    def _knock(self) -> None:
        """Raise if a local daemon accepts no connections, before docker-py would leak a socket."""
        if not self.is_local:
            return
        path = (self._url or f"unix://{_SOCKET}").removeprefix("unix:").removeprefix("//")
        with socket.socket(socket.AF_UNIX) as knock:
            knock.settimeout(self._timeout_s)
            knock.connect(path)


@contextlib.contextmanager
def doing(what: str) -> Iterator[None]:
    """Turn every failure of the daemon into a `SandboxError` that says what was being done."""
    try:
        yield
    except NotFound as error:
        raise GoneError(f"Docker cannot {what}: {error.explanation}") from error
    except APIError as error:
        raise SandboxError(f"Docker cannot {what}: {error.explanation or error}") from error
    except _DAEMON_ERRORS as error:
        raise SandboxError(f"Docker cannot {what}: {error}") from error


def _status(error: SandboxError) -> int | None:
    cause = error.__cause__
    return cause.status_code if isinstance(cause, APIError) else None
