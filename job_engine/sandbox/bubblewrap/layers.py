"""Root file systems for `own-root`: read-only layers, with a writable file system on top.

Used by the zygote (`attach`, as host root) and by holders (`mount_root`, as root of their
slot only). A layer is a directory of the host's that nothing may write to; an idmapped mount
(mount_setattr(2), Linux 5.12, on ext4, xfs, btrfs and others) shows its files as owned by the
slot's own range of ids, so that the slot's root has over its copies what root has. What is
written goes to a file system in memory, with limits; overlayfs joins the two (Linux 5.19).
"""

from __future__ import annotations

import os
import signal
from typing import Any, Final

from job_engine.sandbox.bubblewrap import syscalls
from job_engine.sandbox.bubblewrap.root import LAYERS_DIR, SLOT_DIR

RANGE: Final = 65_536
"""How many ids a slot that is its own root has, 0 to 65,535 as seen from inside."""
RANGE_FIRST: Final = 100_000
"""Where the range begins in the slot's own namespace, of which the holder is root."""
ROOT_DIR: Final = f"{SLOT_DIR}/root"
_UPPER_DIR: Final = f"{SLOT_DIR}/upper"
_FLAGS: Final = syscalls.MS_NOSUID | syscalls.MS_NODEV


def attach(layers: list[dict[str, Any]], first: int) -> None:
    """Mount each layer read-only below `LAYERS_DIR`, its ids shifted to `first` and on.

    Each has a `place`, and the `ids` that its files have on disk. Raises `OSError`.
    """
    for number, layer in enumerate(layers):
        users = _user_namespace(f"{layer['ids']} {first} {RANGE}\n")
        try:
            syscalls.bind_idmapped(layer["place"], f"{LAYERS_DIR}/{number}", users)
        finally:
            os.close(users)


def mount_root(parts: list[dict[str, Any]], size_bytes: int, inodes: int) -> None:
    """Mount the slot's root: each part has a place `at` in it, and the numbers of its layers."""
    os.mkdir(_UPPER_DIR)
    os.mkdir(ROOT_DIR)
    options = f"size={size_bytes},nr_inodes={inodes + 1},mode=755"
    syscalls.mount("upper", _UPPER_DIR, "tmpfs", _FLAGS, options)
    for number, part in enumerate(parts):
        upper, work = f"{_UPPER_DIR}/{number}", f"{_UPPER_DIR}/{number}-work"
        for directory in (upper, work):
            os.mkdir(directory)
            os.chmod(directory, 0o755)
            os.chown(directory, RANGE_FIRST, RANGE_FIRST)
        lower = ":".join(f"{LAYERS_DIR}/{layer}" for layer in part["layers"])
        # Attributes of users' own, for the others are host root's alone.
        options = f"lowerdir={lower},upperdir={upper},workdir={work},userxattr"
        syscalls.mount("root", os.path.join(ROOT_DIR, part["at"]), "overlay", _FLAGS, options)


def written() -> str:
    """Return the mount point of the file system that holds the written files."""
    return _UPPER_DIR


def open_written(parts: int) -> list[int]:
    """Return a descriptor of the directory with the written files of each part."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    return [os.open(f"{_UPPER_DIR}/{number}", flags) for number in range(parts)]


def map_range(pid: int) -> None:
    """Map the slot's range of ids to 0 and up in the user namespace of one of its processes."""
    for kind in ("uid", "gid"):
        with open(f"/proc/{pid}/{kind}_map", "w", encoding="ascii") as file:
            file.write(f"0 {RANGE_FIRST} {RANGE}\n")


def _user_namespace(mapping: str) -> int:
    """Return a descriptor of a user namespace with this mapping, which has no process."""
    ready, notify = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            syscalls.unshare(syscalls.CLONE_NEWUSER)
            os.write(notify, b"u")
            signal.pause()
        finally:
            os._exit(1)
    os.close(notify)
    try:
        if os.read(ready, 1) != b"u":
            raise OSError("no user namespace to map a layer with")
        for kind in ("uid", "gid"):
            with open(f"/proc/{pid}/{kind}_map", "w", encoding="ascii") as file:
                file.write(mapping)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
