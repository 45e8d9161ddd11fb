"""A phase or companion that bwrap runs, as the holder sees it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Final

from job_engine.sandbox.bubblewrap import child, layers, syscalls, walk
from job_engine.sandbox.bubblewrap.root import SLOT_DIR
from job_engine.sandbox.bubblewrap.wire import CHUNK_BYTES, Channel, Message

TREES_DIR: Final = f"{SLOT_DIR}/trees"
SCRATCH_DIR: Final = f"{SLOT_DIR}/scratch"
"""Mount point of a phase's private /tmp and /dev/shm, which count as its memory."""
COMPANION_SCRATCH_DIR: Final = f"{SLOT_DIR}/companion"
"""The same of who runs beside it."""
FLAGS: Final = syscalls.MS_NOSUID | syscalls.MS_NODEV


class Running:
    """One bwrap process, from its fork to its end; `close` it afterwards."""

    def __init__(
        self,
        channel: Channel,
        message: Message,
        program: int,
        owner: int,
        scratch: str = SCRATCH_DIR,
    ) -> None:
        head = message.head
        self._scratch = scratch
        self._file_size_bytes = head["file_size_bytes"]
        self._places = [scratch, *(f"{TREES_DIR}/{name}" for name in head["writable"])]
        self._places += [layers.written()] if head["own_root"] else []
        self._full = False
        self.code: int | None = None
        """Exit status, or minus a signal, once it was waited for."""
        _mount_scratch(scratch, head["scratch_bytes"], owner)
        self._status, status = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            child.run(channel, message, program, status, owner)
        os.close(status)
        for fd in message.fds:
            os.close(fd)
        message.fds.clear()

    def look(self) -> None:
        """Note whether a tree is full now, because the program may delete files later."""
        self._full = self._full or _any_full(self._places)

    def reap(self, options: int = 0) -> bool:
        """Wait for its end, and return whether it has ended."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, options)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code is not None

    def facts(self) -> dict[str, Any]:
        """Return the facts about its end. All of its processes must have ended."""
        self.look()
        code = self.code or 0
        at_limit = code != 0 and walk.holds_file_of(self._places, self._file_size_bytes)
        return {
            "ended": 128 - code if code < 0 else code,
            "full": self._full,
            "file_at_limit": at_limit,
            "ran": b'"exit-code"' in os.read(self._status, CHUNK_BYTES),
        }

    def close(self) -> None:
        """Unmount its /tmp."""
        os.close(self._status)
        syscalls.unmount(self._scratch)


def owned(owner: int) -> str:
    """Return the mount options that give a tmpfs to a user."""
    return f"uid={owner},gid={owner}"


def _mount_scratch(place: str, size_bytes: int, owner: int) -> None:
    inodes = max(size_bytes // 4096, 1024)
    options = f"size={size_bytes},nr_inodes={inodes},mode=755,{owned(owner)}"
    syscalls.mount("scratch", place, "tmpfs", FLAGS, options)
    for name in ("tmp", "shm"):
        os.mkdir(f"{place}/{name}")
        os.chmod(f"{place}/{name}", 0o1777)


def _any_full(places: Iterable[str]) -> bool:
    for place in places:
        usage = os.statvfs(place)
        if usage.f_bfree == 0 or usage.f_ffree == 0:
            return True
    return False
