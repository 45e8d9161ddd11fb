"""The options of bwrap for a phase, as pure functions of its specification."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from job_engine.sandbox.base import PhaseSpec
from job_engine.sandbox.bubblewrap.child import BLOCK_FD, SECCOMP_FD, STATUS_FD
from job_engine.sandbox.bubblewrap.layers import ROOT_DIR
from job_engine.sandbox.bubblewrap.own_root import KeptRoots
from job_engine.sandbox.bubblewrap.root import IMAGES_DIR, KVM_DIR, SYSTEM_DIRS
from job_engine.sandbox.bubblewrap.running import TREES_DIR, scratch_of
from job_engine.sandbox.policy import SANDBOX_UID, phase_environment

_NOT_FROM_IMAGES: Final = frozenset(
    ("boot", "dev", "home", "lost+found", "media", "mnt", "proc", "root", "run", "sys", "tmp")
)
"""Of a root file system, what a phase gets its own of, or none."""
_OWN_ROOT: Final = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
)
"""Capabilities over files and users, limited to the slot's own range of ids."""
_PROC: Final = (
    # Some settings belong to the phase's own namespaces, so that it could write them.
    *("--ro-bind", "/proc/sys", "/proc/sys"),
    # Reading it blocks every file lock of the host, those of databases too.
    *("--ro-bind", "/dev/null", "/proc/locks"),
)
_OVERLAID: Final = ("hosts", "resolv.conf", "passwd", "group")


def image_binds(roots: KeptRoots, image: str | None) -> tuple[str, ...]:
    """Return the bwrap arguments that show an image; None: the host's /usr and no more.

    Raises `ImageUnavailableError` when there is no such root file system.
    """
    if image is None:
        return tuple(_host_system())
    return tuple(_root_file_system(roots.image_place(image)))


def bwrap_options(phase: PhaseSpec, image: tuple[str, ...]) -> list[str]:
    """Return all options of bwrap for a phase; paths are those of the holder's root."""
    scratch = scratch_of(phase.name)
    return [
        *("--unshare-all", "--unshare-user", "--share-net"),
        *("--uid", str(SANDBOX_UID), "--gid", str(SANDBOX_UID), "--hostname", "sandbox"),
        *("--die-with-parent", "--new-session"),
        *("--json-status-fd", str(STATUS_FD), "--seccomp", str(SECCOMP_FD)),
        *("--block-fd", str(BLOCK_FD)),
        *image,
        *("--proc", "/proc", "--dev", "/dev"),
        *_PROC,
        *("--bind", f"{scratch}/tmp", "/tmp", "--bind", f"{scratch}/shm", "/dev/shm"),
        *(("--dev-bind", f"{KVM_DIR}/kvm", "/dev/kvm") if phase.kvm else ()),
        *_mounts(phase),
        # bwrap makes both as file systems in memory, which the program could fill unnoticed.
        *("--remount-ro", "/dev", "--remount-ro", "/"),
        "--clearenv",
        *set_environment(phase_environment(phase)),
        *("--chdir", phase.workdir),
    ]


def set_environment(environment: Mapping[str, str]) -> Iterator[str]:
    """Return the options that set variables; the last one of a name counts."""
    for name, value in environment.items():
        yield from ("--setenv", name, value)


def own_root_options(phase: PhaseSpec) -> list[str]:
    """Return all options of bwrap for a phase that is root of its slot's own root.

    bwrap starts as root of the phase's user namespace, so it makes none.
    """
    shared = [f"/etc/{name}" for name in ("hosts", "resolv.conf")]
    return [
        *("--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try"),
        *("--hostname", "sandbox", "--die-with-parent", "--new-session"),
        *("--json-status-fd", str(STATUS_FD), "--seccomp", str(SECCOMP_FD)),
        *("--block-fd", str(BLOCK_FD)),
        *("--bind", ROOT_DIR, "/", "--proc", "/proc", "--dev", "/dev"),
        *_PROC,
        *("--bind", f"{scratch_of(phase.name)}/shm", "/dev/shm"),
        *(word for path in shared for word in ("--ro-bind", path, path)),
        *(("--dev-bind", f"{KVM_DIR}/kvm", "/dev/kvm") if phase.kvm else ()),
        *_mounts(phase),
        *("--remount-ro", "/dev", "--cap-drop", "ALL"),
        *(word for name in _OWN_ROOT for word in ("--cap-add", name)),
        "--clearenv",
        *set_environment(phase_environment(phase)),
        *("--chdir", phase.workdir),
    ]


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
