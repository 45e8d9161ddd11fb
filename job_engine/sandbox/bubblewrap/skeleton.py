"""A root file system around the host's /usr, for slots that are their own root.

It contains public configuration, its own users, and the package manager's list of installed
packages, so that these are not installed again.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from job_engine.sandbox.bubblewrap.root import SYSTEM_DIRS, copy_etc

_VERSION: Final = 3
_ETC: Final = (
    "adduser.conf",
    "bash.bashrc",
    "debconf.conf",
    "default",
    "deluser.conf",
    "environment",
    "host.conf",
    "login.defs",
    "pam.conf",
    "pam.d",
    "profile",
    "profile.d",
    "R",
    "security",
    "shells",
    "skel",
    "sudo.conf",
    "sudoers",
)
_DIRECTORIES: Final = {
    "dev": 0o755,
    "etc/apt/apt.conf.d": 0o755,
    "etc/apt/preferences.d": 0o755,
    "etc/apt/sources.list.d": 0o755,
    "home": 0o755,
    "media": 0o755,
    "mnt": 0o755,
    "opt": 0o755,
    "proc": 0o755,
    "root": 0o700,
    "run": 0o755,
    "run/lock": 0o1777,
    "srv": 0o755,
    "sys": 0o755,
    "tmp": 0o1777,
    "usr": 0o755,
    "var/cache/apt/archives/partial": 0o755,
    "var/lib/apt/lists/partial": 0o755,
    "var/log": 0o755,
    "var/mail": 0o755,
    "var/tmp": 0o1777,
}
_USERS: Final = Path("/usr/share/base-passwd")
_PACKAGES: Final = Path("/var/lib/dpkg")
_PASSWD: Final = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/bin/false\n"
_GROUP: Final = "root:x:0:\nnogroup:x:65534:\n"
_APT: Final = "_apt:x:42:65534::/nonexistent:/usr/sbin/nologin\n"


def make_skeleton(directory: Path, digest: str) -> Path:
    """Return the skeleton for the host as `digest` names it, made on first use.

    Raises `OSError`.
    """
    place = directory / f"skeleton-{_VERSION}-{digest.rpartition(':')[2][:16]}"
    if place.is_dir():
        return place
    made = Path(tempfile.mkdtemp(prefix="new-", dir=directory))
    try:
        _fill(made)
        os.chmod(made, 0o755)
        try:
            made.rename(place)
        except OSError:
            # Another thread or process was faster.
            if not place.is_dir():
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return place


def _fill(root: Path) -> None:
    for name, mode in _DIRECTORIES.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        os.chmod(root / name, mode)
    for name in SYSTEM_DIRS:
        if os.path.islink(f"/{name}"):
            os.symlink(os.readlink(f"/{name}"), root / name)
        elif os.path.isdir(f"/{name}"):
            (root / name).mkdir(mode=0o755)
    os.symlink("../run", root / "var/run")
    copy_etc(str(root / "etc"), _ETC)
    (root / "etc/apt/sources.list").touch()
    _fill_users(root / "etc")
    if _PACKAGES.is_dir():
        shutil.copytree(_PACKAGES, root / "var/lib/dpkg", symlinks=True)
        # It names groups of the host, and the package manager does not start without these.
        (root / "var/lib/dpkg/statoverride").write_text("")


def _fill_users(etc: Path) -> None:
    """Write the users of a fresh system, without those of the host."""
    passwd, group = _master("passwd", _PASSWD) + _APT, _master("group", _GROUP)
    shadow = "".join(f"{name}:*:19000:0:99999:7:::\n" for name in _names(passwd))
    gshadow = "".join(f"{name}:*::\n" for name in _names(group))
    for file, text, mode in (
        ("passwd", passwd, 0o644),
        ("group", group, 0o644),
        ("shadow", shadow, 0o640),
        ("gshadow", gshadow, 0o640),
    ):
        (etc / file).write_text(text)
        os.chmod(etc / file, mode)


def _master(name: str, default: str) -> str:
    try:
        text = (_USERS / f"{name}.master").read_text()
    except OSError:
        return default
    return "".join(line.replace(":*:", ":x:", 1) for line in text.splitlines(keepends=True))


def _names(text: str) -> list[str]:
    return [line.partition(":")[0] for line in text.splitlines() if line]
