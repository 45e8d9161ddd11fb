"""Images of phases, and the holder's image, which is made here without a registry."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import re
import tarfile
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from docker.auth import get_config_header, resolve_repository_name
from docker.utils import parse_repository_tag

from job_engine.errors import ImageUnavailableError, SandboxError, SandboxRefusedError
from job_engine.log import get_logger
from job_engine.sandbox.base import KEPT_PREFIX
from job_engine.sandbox.docker.daemon import Daemon, GoneError, doing
from job_engine.settings import SandboxSettings

HOLDER_REPOSITORY: Final = "job-engine-holder"

_APPLETS: Final = (
    *("cat", "chmod", "chown", "dd", "find", "head"),
    *("rm", "sh", "stat", "tar", "xargs"),
)
_OWN_ID: Final = re.compile(r"/containers/([0-9a-f]{64})/")
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}

log = get_logger(__name__)


@dataclass(frozen=True)
class Image:
    """An image that the daemon has."""

    id: str
    """Digest of the content; unlike a tag, it cannot change between two phases."""
    volumes: tuple[str, ...]
    """Where the image declares volumes; Docker would put each on the host's disk, unlimited."""
    path: str | None
    """PATH of the image, where it sets one."""
    digests: tuple[str, ...] = field(default=(), compare=False)
    """Its digests in registries, `name@sha256:…`, known after a pull."""

    @property
    def identities(self) -> frozenset[str]:
        """Ids and digests by which an operator may allow it."""
        return frozenset((self.id, *self.digests))


class Images:
    """Finds images by name or digest, and pulls a missing one once for all callers."""

    def __init__(self, daemon: Daemon, settings: SandboxSettings) -> None:
        self._daemon = daemon
        self._settings = settings
        self._lock = threading.Lock()
        self._pulling: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._holder: Image | None = None

    def find(self, name: str, *, pull: bool = True) -> Image:
        """Return the image of this name, pulled if need be and allowed.

        Raises `ImageUnavailableError`.
        """
        image = self._local(name)
        if image is not None:
            return image
        if name.startswith(KEPT_PREFIX):
            raise ImageUnavailableError(f"{name} is not here any more")
        if not pull:
            raise ImageUnavailableError(
                f"image {name} is not here, and is not fetched: the setting allow_images does not "
                "name it by its digest; image_map can stand another in for it"
            )
        with self._lock:
            pulling = self._pulling[name]
        with pulling:
            image = self._local(name)
            if image is None:
                self._pull(name)
                image = self._local(name)
        if image is None:
            raise ImageUnavailableError(f"image {name} was pulled, and still is not here")
        return image

    def size_bytes(self, name: str) -> int | None:
        """Return what an image takes on top of the one it was made from; None: it is gone."""
        found = self._inspect(name)
        if found is None:
            return None
        parent = self._inspect(str(found.get("Parent"))) if found.get("Parent") else None
        return int(found["Size"]) - int(parent["Size"] if parent is not None else 0)

    def holder(self) -> Image:
        """Return the image that holders run from, made on demand."""
        with self._lock:
            if self._holder is None or self._local(self._holder.id) is None:
                self._holder = self._find_holder()
            return self._holder

    def own(self) -> Image | None:
        """Return the image that this process runs from, when it runs in a container here."""
        found = _OWN_ID.search(_read(Path("/proc/self/mountinfo")))
        if found is None:
            return None
        try:
            return self._local(str(self._daemon.inspect(found[1])["Image"]))
        except GoneError:
            return None  # a container of another daemon

    def _inspect(self, name: str) -> Mapping[str, Any] | None:
        try:
            with doing(f"look for image {name}"):
                api: Any = self._daemon.api
                return dict(api.inspect_image(name))
        except GoneError:
            return None

    def _local(self, name: str) -> Image | None:
        found = self._inspect(name)
        if found is None:
            return None
        config = found.get("Config") or {}
        environment = dict(item.partition("=")[::2] for item in config.get("Env") or [])
        return Image(
            id=str(found["Id"]),
            volumes=tuple(config.get("Volumes") or ()),
            path=environment.get("PATH"),
            digests=tuple(found.get("RepoDigests") or ()),
        )

    def _pull(self, name: str) -> None:
        if name.startswith("sha256:"):
            raise ImageUnavailableError(_advice(name, "an image id cannot be pulled"))
        log.info("image.pull", image=name)
        try:
            with doing(f"pull image {name}"):
                for line in self._pull_progress(name):
                    if "error" in line:
                        raise ImageUnavailableError(_advice(name, str(line["error"])))
        except ImageUnavailableError:
            raise
        except SandboxError as error:
            raise ImageUnavailableError(_advice(name, error.message)) from error

    def _pull_progress(self, name: str) -> Iterator[dict[str, Any]]:
        # docker-py's own `pull` waits for ever if a registry stops answering.
        api = self._daemon.api
        repository, tag = parse_repository_tag(name)
        registry, _ = resolve_repository_name(repository)
        authorization = get_config_header(api, registry)
        with api.post(
            f"{api.base_url}/v{api.api_version}/images/create",
            params={"fromImage": repository, "tag": tag or "latest"},
            headers={"X-Registry-Auth": authorization} if authorization else {},
            stream=True,
            timeout=self._settings.docker_pull_timeout_s,
        ) as response:
            if not response.ok:
                raise ImageUnavailableError(_advice(name, response.text.strip()))
            for line in response.iter_lines():
                if line:
                    yield json.loads(line)

    def _find_holder(self) -> Image:
        if self._settings.docker_holder_image:
            return self.find(self._settings.docker_holder_image)
        busybox = self._settings.docker_busybox
        if busybox.is_file() and self._same_architecture():
            return self._import_holder(busybox.read_bytes())
        own = self.own()
        if own is None:
            raise SandboxRefusedError(
                f"no image for the container that holds a slot's trees: install busybox-static "
                f"({busybox} is not there or for another architecture than the daemon's), or set "
                "docker_holder_image"
            )
        return own

    def _same_architecture(self) -> bool:
        theirs = str(self._daemon.info.get("Architecture", ""))
        machine = platform.machine()
        return theirs in (machine, _ARCHITECTURES.get(machine))

    def _import_holder(self, busybox: bytes) -> Image:
        archive = holder_archive(busybox)
        tag = hashlib.sha256(archive).hexdigest()[:12]
        name = f"{HOLDER_REPOSITORY}:{tag}"
        image = self._local(name)
        if image is None:
            log.info("image.holder", image=name)
            with doing(f"import {name}"):
                self._daemon.api.import_image_from_data(archive, HOLDER_REPOSITORY, tag)
            image = self._local(name)
        if image is None:
            raise SandboxError(f"{name} was imported, and is not here")
        return image


def holder_archive(busybox: bytes) -> bytes:
    """Return a root file system of busybox and links to it; the same bytes every time."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        # Docker gives a tmpfs the mode of the directory that it covers.
        for directory, mode in (("bin", 0o755), ("trees", 0o755), ("tmp", 0o1777)):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            archive.addfile(entry)
        program = tarfile.TarInfo("bin/busybox")
        program.size, program.mode = len(busybox), 0o755
        archive.addfile(program, io.BytesIO(busybox))
        for applet in _APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    return buffer.getvalue()


def _advice(name: str, reason: str) -> str:
    return (
        f"image {name} is not here and could not be pulled ({reason}): `docker pull` it where a "
        "registry is reachable, `docker load` it from a file, or let the setting default_image, "
        "or for this name image_map, be one that is here"
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
