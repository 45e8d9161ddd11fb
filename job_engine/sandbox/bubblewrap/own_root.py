"""The parts of a root file system for `own-root`, and root file systems that are kept.

A kept root is what a phase wrote over another, on disk below `kept_roots_dir`, which only
host root may look into: `<name>/0`, `<name>/1`, … for each part, and `kept.json`. Its files
belong to the range of ids of the slot that made them, never to host root.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from job_engine.errors import ImageUnavailableError, SandboxError
from job_engine.sandbox.base import KEPT_PREFIX, OwnRoot
from job_engine.sandbox.bubblewrap.identity import identity_of
from job_engine.sandbox.bubblewrap.root import IMAGES_DIR, KEPT_DIR, SYSTEM_DIRS
from job_engine.sandbox.bubblewrap.skeleton import make_skeleton

_META: Final = "kept.json"
_COPY_TIMEOUT_S: Final = 600


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A directory to be shown read-only."""

    place: str
    """As the zygote sees it."""
    ids: int = 0
    """The host id that its root's files have."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A mount of the root file system."""

    at: str
    """Relative to the root; empty: the root itself."""
    layers: tuple[Layer, ...]
    """The topmost first."""


class KeptRoots:
    """Root file systems by name: the host's own, the operator's, and those that are kept."""

    def __init__(self, directory: Path, rootfs_dir: Path | None) -> None:
        self._directory = directory
        self._rootfs_dir = rootfs_dir

    def make_directory(self) -> Path:
        """Make the directory, for host root only."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._directory

    def parts(self, image: str | None) -> tuple[Part, ...]:
        """Return the mounts that show an image. Raises `ImageUnavailableError`."""
        if image is None:
            return self._host_parts()
        if not image.startswith(KEPT_PREFIX):
            self.image_place(image)
            return (Part(at="", layers=(Layer(place=f"{IMAGES_DIR}/{image}"),)),)
        meta, name = self._meta(image), image.removeprefix(KEPT_PREFIX)
        return tuple(
            Part(
                at=part.at,
                layers=(
                    Layer(place=f"{KEPT_DIR}/{name}/{number}", ids=meta["ids"]),
                    *part.layers,
                ),
            )
            for number, part in enumerate(self.parts(meta["image"]))
        )

    def image_place(self, image: str) -> Path:
        """Return the directory of a root file system of the operator's."""
        plain = bool(image) and "/" not in image and image not in (".", "..")
        place = self._rootfs_dir / image if self._rootfs_dir is not None and plain else None
        if place is None or place.is_symlink() or not place.is_dir():
            where = self._rootfs_dir or "rootfs_dir, which is not set"
            raise ImageUnavailableError(
                f"no root file system {image!r} in {where}; the setting image_map can stand "
                "another in for it"
            )
        return place

    def digest(self, image: str | None) -> str:
        """Return a digest that changes with the packages of the image.

        Raises `ImageUnavailableError`.
        """
        if image is not None and not image.startswith(KEPT_PREFIX):
            self.image_place(image)
        return identity_of(self._rootfs_dir, image)

    def use(self, image: str | None) -> int | None:
        """Return a descriptor that keeps a kept root from being dropped until it is closed."""
        if image is None or not image.startswith(KEPT_PREFIX):
            return None
        fd = self._lock(image)
        fcntl.flock(fd, fcntl.LOCK_SH)
        return fd

    def keep(self, name: str, image: str | None, written: Sequence[int], ids: int) -> None:
        """Copy what was written to the parts of `image`, and name it. Raises `SandboxError`."""
        made = Path(tempfile.mkdtemp(prefix="new-", dir=self.make_directory()))
        try:
            for number, fd in enumerate(written):
                (made / str(number)).mkdir(mode=0o755)
                _copy(fd, made / str(number))
            size = sum(file.stat(follow_symlinks=False).st_blocks for file in _walk(made)) * 512
            meta = {"image": image, "ids": ids, "bytes": size}
            (made / _META).write_text(json.dumps(meta))
            self.drop(name)
            made.rename(self._entry(name))
        except OSError as error:
            raise SandboxError(f"a root file system cannot be kept: {error}") from error
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def size_bytes(self, name: str) -> int | None:
        """Return the bytes that a kept root takes on disk; None: it is gone."""
        with contextlib.suppress(ImageUnavailableError):
            return int(self._meta(name)["bytes"])
        return None

    def drop(self, name: str) -> None:
        """Remove a kept root, unless a slot uses it. Idempotent."""
        fd = self._lock(name)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                gone = Path(tempfile.mkdtemp(prefix="old-", dir=self._directory))
                self._entry(name).rename(gone / "root")
            shutil.rmtree(gone, ignore_errors=True)
        except BlockingIOError:
            return
        finally:
            os.close(fd)

    def _host_parts(self) -> tuple[Part, ...]:
        skeleton = make_skeleton(self.make_directory(), self.digest(None))
        names = ["usr", *(name for name in SYSTEM_DIRS if not os.path.islink(f"/{name}"))]
        return (
            Part(at="", layers=(Layer(place=f"{KEPT_DIR}/{skeleton.name}"),)),
            *(
                Part(at=name, layers=(Layer(place=f"/{name}"),))
                for name in names
                if os.path.isdir(f"/{name}")
            ),
        )

    def _entry(self, name: str) -> Path:
        return self._directory / name.removeprefix(KEPT_PREFIX)

    def _meta(self, name: str) -> dict[str, Any]:
        try:
            return dict(json.loads((self._entry(name) / _META).read_text()))
        except (OSError, ValueError) as error:
            raise ImageUnavailableError(f"{name} is not here any more ({error})") from error

    def _lock(self, name: str) -> int:
        path = self.make_directory() / f"{name.removeprefix(KEPT_PREFIX)}.lock"
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


class RootRequest:
    """The root file system of one slot: its layers, and whether it is kept."""

    def __init__(self, roots: KeptRoots, image: str | None, own: OwnRoot, ids: int) -> None:
        """`ids` is the first host id of the slot's range. Raises `ImageUnavailableError`."""
        self._roots = roots
        self._image = image
        self._own = own
        self._ids = ids
        self._use = roots.use(image)
        try:
            self._parts = roots.parts(image)
        except BaseException:
            self.release()
            raise

    def layers(self) -> dict[str, Any]:
        """Return the layers that the zygote has to mount."""
        flat = [layer for part in self._parts for layer in part.layers]
        return {
            "range": self._ids,
            "layers": [{"place": layer.place, "ids": layer.ids} for layer in flat],
        }

    def mounts(self) -> dict[str, Any]:
        """Return the parts that the holder has to mount, with indexes into `layers`."""
        numbers = itertools.count()
        parts = [
            {"at": part.at, "layers": [next(numbers) for _ in part.layers]} for part in self._parts
        ]
        return {
            "parts": parts,
            "size_bytes": self._own.size_bytes,
            "inodes": self._own.inodes,
        }

    def keep(self, name: str, written: Sequence[int]) -> None:
        """Keep the files written to each part. Raises `SandboxError`."""
        self._roots.keep(name, self._image, written, self._ids)

    def release(self) -> None:
        """Release the kept root that this is based on, so that it can be dropped. Idempotent."""
        if self._use is not None:
            os.close(self._use)
            self._use = None


def _copy(source: int, target: Path) -> None:
    """Copy a tree of a slot in which nothing runs any more: owners, modes, links, whiteouts."""
    done = subprocess.run(
        ["cp", "-a", "-T", f"/proc/self/fd/{source}/.", str(target)],
        pass_fds=[source],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_COPY_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise OSError(done.stderr[-300:].decode(errors="replace"))


def _walk(directory: Path) -> list[Path]:
    return [Path(root) / name for root, _, files in os.walk(directory) for name in files]
