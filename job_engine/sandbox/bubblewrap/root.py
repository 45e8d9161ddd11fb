"""The small root file system that the zygote and all slots live in.

It is an allow-list: a slot contains only what is put here. It is built once, in the zygote's own
mount namespace, on a tmpfs that is not visible on the host.
"""

from __future__ import annotations

import glob
import os
import shutil
import stat
from collections.abc import Iterable
from typing import Final

from job_engine.sandbox.bubblewrap import syscalls

SLOT_DIR: Final = "/slot"
"""Mount point for the file systems of a slot."""
IMAGES_DIR: Final = "/images"
KEPT_DIR: Final = "/kept"
"""Where the zygote sees kept root file systems; closed to everybody else in a slot."""
LAYERS_DIR: Final = "/layers"
"""Mount points for the layers of a slot that is its own root."""
_MAX_LAYERS: Final = 16
KVM_DIR: Final = "/kvm"
SYSTEM_DIRS: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty")

# Public configuration that programs under /usr need to start at all.
_ETC: Final = (
    "alternatives",
    "fonts",
    "java*",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "magic",
    "mime.types",
    "perl",
    "pki/ca-trust/extracted",
    "pki/tls/certs",
    "protocols",
    "python3*",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
)
_GENERATED: Final = {
    "passwd": "root:x:0:0:root:/:/usr/sbin/nologin\n"
    "student:x:1000:1000:student:/tmp:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
    "group": "root:x:0:\nstudent:x:1000:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    "hostname": "sandbox\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "resolv.conf": "",
}
_BUILD_AT: Final = "/tmp"
_ROOT_BYTES: Final = 64 * 2**20


def enter(rootfs_dir: str | None, kept_dir: str | None, kvm: bool) -> None:
    """Build the root and move this process into it, irrevocably. Needs host root."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    # Held open, since the mount below hides them should they be under /tmp.
    shown = {
        name: os.open(directory, os.O_PATH | os.O_DIRECTORY)
        for name, directory in ((IMAGES_DIR, rootfs_dir), (KEPT_DIR, kept_dir))
        if directory is not None
    }
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
    syscalls.mount("root", _BUILD_AT, "tmpfs", flags, f"mode=755,size={_ROOT_BYTES}")
    for name in ("etc", "proc", "dev", "tmp", SLOT_DIR[1:]):
        os.mkdir(f"{_BUILD_AT}/{name}")
    _bind_read_only("/usr", "usr")
    for name in SYSTEM_DIRS:
        _system_dir(name)
    copy_etc(f"{_BUILD_AT}/etc")
    _fill_dev(kvm)
    for name, fd in shown.items():
        _bind_read_only(f"/proc/self/fd/{fd}", name[1:])
        os.close(fd)
    for number in range(_MAX_LAYERS):
        os.makedirs(f"{_BUILD_AT}{LAYERS_DIR}/{number}")
    # Not recursive: only a proc without mounts on top lets slots mount their own.
    syscalls.mount("/proc", f"{_BUILD_AT}/proc", None, syscalls.MS_BIND)
    syscalls.become_root_directory(_BUILD_AT)


def _fill_dev(kvm: bool) -> None:
    for name in DEVICES:
        os.close(os.open(f"{_BUILD_AT}/dev/{name}", os.O_CREAT | os.O_WRONLY, 0o444))
        syscalls.mount(f"/dev/{name}", f"{_BUILD_AT}/dev/{name}", None, syscalls.MS_BIND)
    if kvm:
        # A node of our own, since the host's is for its own users and groups only.
        flags = syscalls.MS_NOSUID | syscalls.MS_NOEXEC
        os.mkdir(f"{_BUILD_AT}{KVM_DIR}")
        syscalls.mount("kvm", f"{_BUILD_AT}{KVM_DIR}", "tmpfs", flags, "mode=755,size=64k")
        os.mknod(f"{_BUILD_AT}{KVM_DIR}/kvm", 0o600 | stat.S_IFCHR, os.stat("/dev/kvm").st_rdev)
        os.chmod(f"{_BUILD_AT}{KVM_DIR}/kvm", 0o666)


def _bind_read_only(source: str, name: str) -> None:
    target = f"{_BUILD_AT}/{name}"
    os.mkdir(target)
    syscalls.mount(source, target, None, syscalls.MS_BIND | syscalls.MS_REC)
    flags = syscalls.MS_RDONLY | syscalls.MS_NOSUID | syscalls.MS_NODEV
    syscalls.mount("none", target, None, syscalls.MS_REMOUNT | syscalls.MS_BIND | flags)


def _system_dir(name: str) -> None:
    """Take over `/lib` and the like: a link into /usr, or a directory on older systems."""
    if os.path.islink(f"/{name}"):
        os.symlink(os.readlink(f"/{name}"), f"{_BUILD_AT}/{name}")
    elif os.path.isdir(f"/{name}"):
        _bind_read_only(f"/{name}", name)


def copy_etc(target: str, further: Iterable[str] = ()) -> None:
    """Copy public configuration from the host's /etc, and write the rest anew."""
    for pattern in (*_ETC, *further):
        for path in glob.glob(f"/etc/{pattern}"):
            _copy(path, target + path.removeprefix("/etc"))
    for name, text in _GENERATED.items():
        with open(f"{target}/{name}", "w", encoding="ascii") as file:
            file.write(text)


def _copy(source: str, target: str) -> None:
    """Copy world-readable files; links are copied as links."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.isdir(source) and not os.path.islink(source):
        shutil.copytree(source, target, symlinks=True, ignore=_unreadable)
    elif not _unreadable(os.path.dirname(source), [os.path.basename(source)]):
        shutil.copy2(source, target, follow_symlinks=False)


def _unreadable(directory: str, names: list[str]) -> set[str]:
    modes = {name: os.lstat(os.path.join(directory, name)).st_mode for name in names}
    return {name for name, mode in modes.items() if not _public(mode)}


def _public(mode: int) -> bool:
    kind_ok = stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)
    return kind_ok and bool(mode & stat.S_IROTH)
