"""Fills a tree from a tar stream, in a process that can see nothing but that tree."""

from __future__ import annotations

import copy
import errno
import os
import signal
import tarfile
from collections.abc import Iterator
from typing import Any

from job_engine.sandbox.bubblewrap import syscalls


class Unpacker:
    """A process that waits for the tar stream of a tree; `end` or `drop` it, once."""

    def __init__(self, tree: str, stream: int, owner: int) -> None:
        """Start it. It unpacks what comes from the descriptor `stream`, as `owner`."""
        self._report, report = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            # Other trees' streams too: their writers would not notice the end of their reader.
            syscalls.close_all_but({stream, report})
            os._exit(_unpack_in(tree, stream, report, owner))
        os.close(report)

    def end(self) -> dict[str, Any]:
        """Wait until everything is unpacked; return {} or {"error": …, "full": …}."""
        with os.fdopen(self._report, "rb") as report:
            message = report.read(4096).decode(errors="replace")
        code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        if code == 0:
            return {}
        return {"error": f"filling a tree: {message or code}", "full": code == errno.ENOSPC}

    def drop(self) -> None:
        """End it; the tree stays as it is."""
        os.close(self._report)
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def _unpack_in(tree: str, stream: int, report: int, owner: int) -> int:
    try:
        # Chroot, so that no link of the archive leads out of the tree.
        os.chroot(tree)
        os.chdir("/")
        os.setgroups([])
        os.setresgid(owner, owner, owner)
        os.setresuid(owner, owner, owner)
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        with os.fdopen(stream, "rb") as file, tarfile.open(fileobj=file, mode="r|") as archive:
            # Isolation is by chroot and uid; `_plain` decides which members are unpacked.
            archive.extraction_filter = lambda member, _: member
            archive.extractall("/", members=_plain(archive))
            # What follows the end of the archive must be read, or its writer gets stuck.
            while file.read(65_536):
                pass
    except (OSError, tarfile.TarError) as error:
        os.write(report, str(error).encode()[:4096])
        return errno.ENOSPC if getattr(error, "errno", None) == errno.ENOSPC else 1
    except BaseException as error:  # noqa: BLE001 - the process ends, whatever it was
        os.write(report, repr(error).encode()[:4096])
        return 1
    return 0


def _plain(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members that a tree may hold, owned by the unpacking user."""
    for member in archive:
        kept = member.isreg() or member.isdir() or member.issym() or member.islnk()
        if kept or member.isfifo():
            clone = copy.copy(member)  # TarInfo.replace is not in every Python 3.11
            clone.mode = (member.mode | 0o600) & 0o777
            yield clone
