"""The identity of an image, computed from its package lists.

A root file system has no digest, and hashing one takes seconds. The versions of its installed
packages identify it, unless files of packages are edited by hand.
"""

from __future__ import annotations

import functools
import hashlib
import subprocess
from pathlib import Path
from typing import Final

from job_engine.sandbox.base import KEPT_PREFIX, kept_identity

_LISTS: Final = (
    "etc/os-release",
    "var/lib/dpkg/status",
    "lib/apk/db/installed",
    "usr/lib/sysimage/rpm/rpmdb.sqlite",
    "var/lib/rpm/rpmdb.sqlite",
)
_HOST: Final = "host"


def identity_of(rootfs_dir: Path | None, image: str | None) -> str:
    """Return `packages:sha256:<hex>` of an image's name and its lists of packages.

    Without an image, phases run the host's own programs.
    """
    if image is not None and image.startswith(KEPT_PREFIX):
        return kept_identity(image)
    root = Path("/") if image is None or rootfs_dir is None else rootfs_dir / image
    hashed = hashlib.sha256(f"{image or _HOST}\n".encode())
    for name in _LISTS:
        path = root / name
        try:
            status = path.stat()
            # A changed list is another file, or has another time.
            stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
            hashed.update(f"{name} {_digest(path, stamp)}\n".encode())
        except OSError:
            continue  # the list of another distribution's package manager
    return f"packages:sha256:{hashed.hexdigest()}"


@functools.lru_cache(maxsize=256)
def _digest(path: Path, _stamp: tuple[int, int, int]) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def bwrap_version(program: Path) -> str:
    """Return bwrap's name and version, such as `bubblewrap 0.8.0`."""
    result = subprocess.run([program, "--version"], capture_output=True, check=False, text=True)
    return result.stdout.strip() or "bubblewrap"
