"""The options of bwrap for a phase: a pure function from what the phase asks for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from job_engine.errors import ImageUnavailableError
from job_engine.sandbox.base import PhaseSpec
from job_engine.sandbox.bubblewrap.child import SECCOMP_FD, STATUS_FD
from job_engine.sandbox.bubblewrap.holder import SCRATCH_DIR, TREES_DIR
from job_engine.sandbox.bubblewrap.root import IMAGES_DIR, KVM_DIR, SYSTEM_DIRS
from job_engine.sandbox.policy import SANDBOX_UID, phase_environment

_NOT_FROM_IMAGES: Final = frozenset(
    ("boot", "dev", "home", "lost+found", "media", "mnt", "proc", "root", "run", "sys", "tmp")
)
"""Of a root file system, what a phase gets its own of, or none."""
_OVERLAID: Final = ("hosts", "resolv.conf", "passwd", "group")


def image_binds(rootfs_dir: Path | None, image: str | None) -> tuple[str, ...]:
    """Return the bwrap arguments that show an image; None: the host's /usr and no more.

    Raises `ImageUnavailableError` when there is no such root file system.
    """
    if image is None:
        return tuple(_host_system())
    place = rootfs_dir / image if rootfs_dir is not None and _is_name(image) else None
    if place is None or place.is_symlink() or not place.is_dir():
        where = rootfs_dir or "rootfs_dir, which is not set"
        raise ImageUnavailableError(f"no root file system {image!r} in {where}")
    return tuple(_root_file_system(place))


def bwrap_options(phase: PhaseSpec, image: tuple[str, ...]) -> list[str]:
    """Return all options of bwrap for a phase; paths are those of the holder's root."""
    return [
        *("--unshare-all", "--unshare-user", "--share-net"),
        *("--uid", str(SANDBOX_UID), "--gid", str(SANDBOX_UID), "--hostname", "sandbox"),
        *("--die-with-parent", "--new-session"),
        *("--json-status-fd", str(STATUS_FD), "--seccomp", str(SECCOMP_FD)),
        *image,
        *("--proc", "/proc", "--dev", "/dev"),
        *("--bind", f"{SCRATCH_DIR}/tmp", "/tmp", "--bind", f"{SCRATCH_DIR}/shm", "/dev/shm"),
        *(("--dev-bind", f"{KVM_DIR}/kvm", "/dev/kvm") if phase.kvm else ()),
        *_mounts(phase),
        # bwrap makes both of file systems in memory that the program could fill unseen.
        *("--remount-ro", "/dev", "--remount-ro", "/"),
        "--clearenv",
        *set_environment(phase_environment(phase)),
        *("--chdir", phase.workdir),
    ]


def set_environment(environment: Mapping[str, str]) -> Iterator[str]:
    """Return the options that set variables; the last one of a name counts."""
    for name, value in environment.items():
        yield from ("--setenv", name, value)


def _host_system() -> Iterator[str]:
    yield from ("--ro-bind", "/usr", "/usr", "--ro-bind", "/etc", "/etc")
    for name in SYSTEM_DIRS:
        if os.path.islink(f"/{name}"):
            yield from ("--symlink", os.readlink(f"/{name}"), f"/{name}")
        elif os.path.isdir(f"/{name}"):
            yield from ("--ro-bind", f"/{name}", f"/{name}")
    yield from ("--dir", "/run", "--dir", "/var", "--symlink", "../tmp", "/var/tmp")


def _root_file_system(place: Path) -> Iterator[str]:
    for entry in sorted(place.iterdir()):
        if entry.name in _NOT_FROM_IMAGES:
            continue
        if entry.is_symlink():
            yield from ("--symlink", os.readlink(entry), f"/{entry.name}")
        elif entry.is_dir():
            yield from ("--ro-bind", f"{IMAGES_DIR}/{place.name}/{entry.name}", f"/{entry.name}")
    for name in _OVERLAID:
        if (place / "etc" / name).is_file() and not (place / "etc" / name).is_symlink():
            yield from ("--ro-bind", f"/etc/{name}", f"/etc/{name}")
    yield from ("--dir", "/run")


def _mounts(phase: PhaseSpec) -> Iterator[str]:
    # Outer targets first, or they would cover the inner ones.
    for mount in sorted(phase.mounts, key=lambda mount: mount.target):
        kind = "--ro-bind" if mount.read_only else "--bind"
        yield from (kind, f"{TREES_DIR}/{mount.tree}", mount.target)


def _is_name(image: str) -> bool:
    return bool(image) and "/" not in image and image not in (".", "..")
