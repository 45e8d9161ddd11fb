"""The holder of a slot: process 1 of its pid namespace, root in its user namespace only.

It mounts the trees and keeps them mounted, starts bwrap for each phase, releases one phase after
the other, and reads the files that they hand over. It has one thread, carries out the executor's
requests, and ends when the executor's end of the channel closes. When it dies, the kernel kills
everything in the slot.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from typing import Any, Final

from job_engine.sandbox.bubblewrap import layers, syscalls, walk
from job_engine.sandbox.bubblewrap.child import MOUNT_FLAGS
from job_engine.sandbox.bubblewrap.fill import Unpacker
from job_engine.sandbox.bubblewrap.root import SLOT_DIR
from job_engine.sandbox.bubblewrap.running import SCRATCH_DIR, TREES_DIR, Running, owned
from job_engine.sandbox.bubblewrap.wire import Channel, Message
from job_engine.sandbox.growth import PERIOD_S, Growth

_SAMPLE_INTERVAL_MS: Final = 50
_STUDENT_UID: Final = 1000


class Holder:
    """Serves one slot, by the operations of `_do`; `kill` may come while a phase runs."""

    def __init__(self, channel: Channel, seccomp_program: bytes) -> None:
        self._channel = channel
        self._program = os.memfd_create("seccomp")
        os.write(self._program, seccomp_program)
        self._owner = _STUDENT_UID
        self._parts = 0
        self._pids = -1
        self._unpackers: dict[str, Unpacker] = {}
        """Processes that wait for a tree's stream, by the name of the tree."""
        self._started: dict[str, Running] = {}
        """Processes that wait for their go, by the name of the phase or companion."""
        self._companion: Running | None = None
        self._was_running = False
        """Whether the companion still ran when its phase had ended."""

    def serve(self) -> None:
        """Carry out requests until the executor is gone."""
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
                return self._setup(message)
            case "fill":
                return self._fill(message.head["trees"])
            case "keep":
                self._keep()
                return None
            case "start":
                self._start(message)
                return None
            case "drop":
                dropped = self._take(message)
                dropped.kill()
                dropped.reap()
                dropped.close()
                return None
            case "companion":
                self._companion = self._take(message)
                self._companion.go()
                return None
            case "run":
                return self._run(message)
            case "handover":
                return self._hand_over(message.head)
            case "kill":
                # The phase has just ended by itself, and its result is being sent.
                return None
            case other:
                return {"error": f"unknown operation {other!r}"}

    def _setup(self, message: Message) -> dict[str, Any]:
        """Mount the trees and the root. The message carries the stream of each tree."""
        trees, own_root = message.head["trees"], message.head["own_root"]
        if own_root is not None:
            # The uid that is root in the slot's phases; it is the first of their range.
            self._owner = layers.RANGE_FIRST
        syscalls.sethostname("sandbox")
        syscalls.mount("proc", "/proc", "proc", MOUNT_FLAGS | syscalls.MS_NOEXEC)
        # Open to the student's uid, because bwrap runs under it; bwrap decides what phases see.
        syscalls.mount("slot", SLOT_DIR, "tmpfs", MOUNT_FLAGS, "mode=755,size=1m")
        # bwrap builds its new root here.
        syscalls.mount(
            "tmp", "/tmp", "tmpfs", MOUNT_FLAGS, f"mode=700,size=1m,{owned(self._owner)}"
        )
        self._pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        for name in (TREES_DIR, SCRATCH_DIR):
            os.mkdir(name)
        for tree in trees:
            _mount_tree(
                f"{TREES_DIR}/{tree['name']}", tree["size_bytes"], tree["inodes"], self._owner
            )
        if own_root is not None:
            self._parts = len(own_root["parts"])
            layers.mount_root(own_root["parts"], own_root["size_bytes"], own_root["inodes"])
        for tree, stream in zip(trees, message.fds, strict=True):
            place = f"{TREES_DIR}/{tree['name']}"
            self._unpackers[tree["name"]] = Unpacker(place, stream, self._owner)
        return {"ready": True}

    def _fill(self, trees: list[str]) -> dict[str, Any]:
        """Wait until these trees are filled; the others stay empty."""
        answer: dict[str, Any] = {"filled": True}
        for name, unpacker in self._unpackers.items():
            if name not in trees:
                unpacker.drop()
            elif found := unpacker.end():
                answer = {"tree": name, **found}
        self._unpackers.clear()
        return answer

    def _keep(self) -> None:
        fds = layers.open_written(self._parts)
        try:
            self._channel.send({"written": len(fds)}, fds=fds)
        finally:
            for fd in fds:
                os.close(fd)

    def _start(self, message: Message) -> None:
        # The process reports errors over this channel itself, so nothing waits for it here.
        news = Channel(socket.socket(fileno=os.dup(message.fds[3])))
        try:
            run = Running(message, self._program, self._owner, self._pids)
            self._started[message.head["name"]] = run
        except OSError as error:
            news.send({"broken": f"starting a phase: {error}"})
        finally:
            news.close()

    def _take(self, message: Message) -> Running:
        run = self._started.pop(message.head["name"], None)
        if run is None:
            raise OSError(f"{message.head['name']} was not started")
        return run

    def _run(self, message: Message) -> dict[str, Any] | None:
        run = self._take(message)
        follow = message.head["follow"]
        run.go()
        try:
            self._watch(run, _Follower(self._channel, **follow) if follow is not None else None)
            self._channel.send(run.facts())
        finally:
            run.close()
        return self._end_companion()

    def _end_companion(self) -> dict[str, Any] | None:
        companion, self._companion = self._companion, None
        if companion is None:
            return None
        try:
            facts = companion.facts()
            return {
                **facts,
                "ran": facts["ran"] or self._was_running,
                "was_running": self._was_running,
            }
        finally:
            companion.close()

    def _watch(self, run: Running, follower: _Follower | None) -> None:
        """Wait for the end of bwrap and its pid namespace, then end the companion."""
        both = [run, self._companion] if self._companion is not None else [run]
        pidfd = os.pidfd_open(run.pid)
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
                    for each in both:
                        each.kill()
                for each in both:
                    each.look()
                if follower is not None:
                    follower.look()
        finally:
            os.close(pidfd)
        run.reap()
        if self._companion is not None:
            self._was_running = not self._companion.reap(os.WNOHANG)
            self._companion.kill()
            self._companion.reap()

    def _hand_over(self, head: dict[str, Any]) -> dict[str, Any]:
        found = walk.Harvest(head["max_bytes"], head["max_files"])
        for name, size, chunks in found.files(f"{TREES_DIR}/{head['tree']}", head["path"]):
            self._channel.send({"file": name, "size": size})
            for chunk in chunks:
                self._channel.send({"data": True}, chunk)
        for name in found.left_out:
            self._channel.send({"left_out": name})
        return {"done": True}


class _Follower:
    """Sends the executor what is appended to a file of a tree while a phase runs."""

    def __init__(self, channel: Channel, tree: str, path: str) -> None:
        self._channel = channel
        self._tree = f"{TREES_DIR}/{tree}"
        self._growth = Growth(path)
        self._next = 0.0

    def look(self) -> None:
        """Send new bytes of the file; does nothing within `PERIOD_S` of the last call."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + PERIOD_S
        tree = os.open(self._tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            data = self._growth.look(tree)
        finally:
            os.close(tree)
        if data:
            self._channel.send({"grew": True}, data)


def _mount_tree(path: str, size_bytes: int, inodes: int, owner: int) -> None:
    os.mkdir(path)
    options = f"size={size_bytes},nr_inodes={inodes + 1},mode=755,{owned(owner)}"
    syscalls.mount("tree", path, "tmpfs", MOUNT_FLAGS, options)
