"""A phase or companion that bwrap runs, as the holder sees it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from typing import Any, Final

from job_engine.sandbox.bubblewrap import child, layers, syscalls, walk
from job_engine.sandbox.bubblewrap.child import MOUNT_FLAGS
from job_engine.sandbox.bubblewrap.root import SLOT_DIR
from job_engine.sandbox.bubblewrap.wire import CHUNK_BYTES, Message

TREES_DIR: Final = f"{SLOT_DIR}/trees"
SCRATCH_DIR: Final = f"{SLOT_DIR}/scratch"
"""Directory of the private /tmp and /dev/shm of each phase, which count as its memory."""


def scratch_of(name: str) -> str:
    """Return the mount point of the private directories of a phase or companion."""
    return f"{SCRATCH_DIR}/{name}"


class Running:
    """One bwrap process, from its fork to its end; `close` it afterwards.

    It is the first process of its own pid namespace, so the kernel ends all its descendants
    with it, whatever a program did.
    """

    def __init__(self, message: Message, program: int, owner: int, pids: int) -> None:
        """Start it. `pids` is a descriptor of the pid namespace that this process is in."""
        head = message.head
        self._scratch = scratch_of(head["name"])
        self._file_size_bytes = head["file_size_bytes"]
        self._places = [self._scratch, *(f"{TREES_DIR}/{name}" for name in head["writable"])]
        self._places += [layers.written()] if head["own_root"] else []
        self._full = False
        self.code: int | None = None
        """Exit status, or minus a signal, once it was waited for."""
        _mount_scratch(self._scratch, head["scratch_bytes"], owner)
        self._status, status = os.pipe()
        gate, self._gate = os.pipe()
        self.pid = _fork_into_new_pids(pids)
        if self.pid == 0:
            child.run(message, program, status, gate, owner)
        for fd in (status, gate, *message.fds):
            os.close(fd)
        message.fds.clear()

    def go(self) -> None:
        """Let its command run."""
        with contextlib.suppress(BrokenPipeError):  # it has died; its exit status has the reason
            os.write(self._gate, b"g")

    def kill(self) -> None:
        """Kill it and all its descendants."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def look(self) -> None:
        """Record whether a tree is full now, because the program may delete files later."""
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
        os.close(self._gate)
        syscalls.unmount(self._scratch)
        os.rmdir(self._scratch)


def owned(owner: int) -> str:
    """Return the mount options that give a tmpfs to a user."""
    return f"uid={owner},gid={owner}"


def _fork_into_new_pids(pids: int) -> int:
    """Fork the first process of a new pid namespace; returns its pid here, and 0 there."""
    syscalls.unshare(syscalls.CLONE_NEWPID)
    try:
        pid = os.fork()
    except OSError:
        syscalls.setns(pids, syscalls.CLONE_NEWPID)
        raise
    if pid:
        syscalls.setns(pids, syscalls.CLONE_NEWPID)
    return pid


def _mount_scratch(place: str, size_bytes: int, owner: int) -> None:
    inodes = max(size_bytes // 4096, 1024)
    options = f"size={size_bytes},nr_inodes={inodes},mode=755,{owned(owner)}"
    os.mkdir(place)
    syscalls.mount("scratch", place, "tmpfs", MOUNT_FLAGS, options)
    for name in ("tmp", "shm"):
        os.mkdir(f"{place}/{name}")
        os.chmod(f"{place}/{name}", 0o1777)


def _any_full(places: Iterable[str]) -> bool:
    for place in places:
        usage = os.statvfs(place)
        if usage.f_bfree == 0 or usage.f_ffree == 0:
            return True
    return False
