"""The holder of a slot: process 1 of its pid namespace, root in its user namespace only.

It mounts the trees and keeps them, starts bwrap for each phase, and reads what phases hand
over. One thread; told what to do by the executor, and ended when the executor's end of the
channel closes. When it dies, the kernel kills everything in the slot.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterable
from typing import Any, Final

from job_engine.sandbox.bubblewrap import child, fill, layers, syscalls, walk
from job_engine.sandbox.bubblewrap.root import SLOT_DIR
from job_engine.sandbox.bubblewrap.wire import CHUNK_BYTES, Channel, Message

TREES_DIR: Final = f"{SLOT_DIR}/trees"
SCRATCH_DIR: Final = f"{SLOT_DIR}/scratch"
"""Mount point of a phase's private /tmp and /dev/shm, which count as its memory."""
_SAMPLE_INTERVAL_MS: Final = 50
_STUDENT_UID: Final = 1000
_FLAGS: Final = syscalls.MS_NOSUID | syscalls.MS_NODEV


class Holder:
    """Serves one slot. Operations: setup, fill, run (and kill meanwhile), handover."""

    def __init__(self, channel: Channel, seccomp_program: bytes) -> None:
        self._channel = channel
        self._program = os.memfd_create("seccomp")
        os.write(self._program, seccomp_program)
        self._owner = _STUDENT_UID
        self._parts = 0

    def serve(self) -> None:
        """Do what the executor says until it is gone."""
        while (message := self._channel.receive()) is not None:
            answer: dict[str, Any] | None = None
            try:
                answer = self._do(message)
            except OSError as error:
                answer = {"error": f"{message.head['op']}: {error}"}
            finally:
                for fd in message.fds:
                    with contextlib.suppress(OSError):
                        os.close(fd)
            if answer is not None:
                self._channel.send(answer)

    def _do(self, message: Message) -> dict[str, Any] | None:
        match message.head["op"]:
            case "setup":
                return self._setup(message.head["trees"], message.head["own_root"])
            case "fill":
                tree = f"{TREES_DIR}/{message.head['tree']}"
                return fill.fill(tree, message.fds[0], self._owner)
            case "keep":
                self._keep()
                return None
            case "run":
                return self._run(message)
            case "handover":
                return self._hand_over(message.head)
            case "kill":
                # The phase ended by itself just now, and its end is on its way.
                return None
            case other:
                return {"error": f"unknown operation {other!r}"}

    def _setup(
        self, trees: list[dict[str, Any]], own_root: dict[str, Any] | None
    ) -> dict[str, Any]:
        if own_root is not None:
            # The root of the slot, to its phases, and whoever they turn into.
            self._owner = layers.RANGE_FIRST
        syscalls.sethostname("sandbox")
        syscalls.mount("proc", "/proc", "proc", _FLAGS | syscalls.MS_NOEXEC)
        # Open to the student's uid, as bwrap runs under it: what it shows is up to bwrap.
        syscalls.mount("slot", SLOT_DIR, "tmpfs", _FLAGS, "mode=755,size=1m")
        # bwrap builds its new root here.
        syscalls.mount("tmp", "/tmp", "tmpfs", _FLAGS, f"mode=700,size=1m,{_owned(self._owner)}")
        for name in (TREES_DIR, SCRATCH_DIR):
            os.mkdir(name)
        for tree in trees:
            _mount_tree(
                f"{TREES_DIR}/{tree['name']}", tree["size_bytes"], tree["inodes"], self._owner
            )
        if own_root is not None:
            self._parts = len(own_root["parts"])
            layers.mount_root(own_root["parts"], own_root["size_bytes"], own_root["inodes"])
        return {"ready": True}

    def _keep(self) -> None:
        fds = layers.open_written(self._parts)
        try:
            self._channel.send({"written": len(fds)}, fds=fds)
        finally:
            for fd in fds:
                os.close(fd)

    def _run(self, message: Message) -> dict[str, Any]:
        head = message.head
        _mount_scratch(head["scratch_bytes"], self._owner)
        status_read, status_write = os.pipe()
        try:
            pid = os.fork()
            if pid == 0:
                child.run(self._channel, message, self._program, status_write, self._owner)
            os.close(status_write)
            for fd in message.fds:
                os.close(fd)
            message.fds.clear()
            places = [SCRATCH_DIR, *(f"{TREES_DIR}/{name}" for name in head["writable"])]
            places += [layers.written()] if head["own_root"] else []
            code, full = self._watch(pid, places)
            full = full or _any_full(places)
            at_limit = code != 0 and walk.holds_file_of(places, head["file_size_bytes"])
            ran = b'"exit-code"' in os.read(status_read, CHUNK_BYTES)
        finally:
            os.close(status_read)
            syscalls.unmount(SCRATCH_DIR)
        return {"ended": code, "full": full, "file_at_limit": at_limit, "ran": ran}

    def _watch(self, pid: int, places: Iterable[str]) -> tuple[int, bool]:
        """Wait for bwrap's end and leave no process; return its status and "a tree was full"."""
        full = False
        pidfd = os.pidfd_open(pid)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.register(self._channel, select.POLLIN)
        try:
            while True:
                ready = [fd for fd, _ in poll.poll(_SAMPLE_INTERVAL_MS)]
                if pidfd in ready:
                    break
                if self._channel.fileno() in ready:
                    message = self._channel.receive()
                    if message is None:
                        os._exit(0)
                    _kill_everything()
                # A program may clean up what it could not finish, so look meanwhile too.
                full = full or _any_full(places)
        finally:
            os.close(pidfd)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        # Daemons of the phase: its pid namespace dies with its first process, which
        # a phase that attaches to it could have talked out of dying with bwrap.
        _kill_everything()
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)
        return (128 - code if code < 0 else code), full

    def _hand_over(self, head: dict[str, Any]) -> dict[str, Any]:
        found = walk.Harvest(head["max_bytes"], head["max_files"])
        for name, size, chunks in found.files(f"{TREES_DIR}/{head['tree']}", head["path"]):
            self._channel.send({"file": name, "size": size})
            for chunk in chunks:
                self._channel.send({"data": True}, chunk)
        for name in found.left_out:
            self._channel.send({"left_out": name})
        return {"done": True}


def _kill_everything() -> None:
    """Kill every process of the slot but this one, in one atomic sweep of the kernel's."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)


def _owned(owner: int) -> str:
    return f"uid={owner},gid={owner}"


def _mount_tree(path: str, size_bytes: int, inodes: int, owner: int) -> None:
    os.mkdir(path)
    options = f"size={size_bytes},nr_inodes={inodes + 1},mode=755,{_owned(owner)}"
    syscalls.mount("tree", path, "tmpfs", _FLAGS, options)


def _mount_scratch(size_bytes: int, owner: int) -> None:
    inodes = max(size_bytes // 4096, 1024)
    options = f"size={size_bytes},nr_inodes={inodes},mode=755,{_owned(owner)}"
    syscalls.mount("scratch", SCRATCH_DIR, "tmpfs", _FLAGS, options)
    for name in ("tmp", "shm"):
        os.mkdir(f"{SCRATCH_DIR}/{name}")
        os.chmod(f"{SCRATCH_DIR}/{name}", 0o1777)


def _any_full(places: Iterable[str]) -> bool:
    for place in places:
        usage = os.statvfs(place)
        if usage.f_bfree == 0 or usage.f_ffree == 0:
            return True
    return False
