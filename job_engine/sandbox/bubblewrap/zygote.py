"""The zygote: a process with one thread that forks the holders of slots.

It is a separate process for three reasons: die-with-parent refers to the thread that forked,
forking a process with many threads is unsafe, and forking a small interpreter takes a
millisecond, starting one thirty. It ends, and its holders with it, when the executor's end of its
socket closes, however the executor ended.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
import traceback

from job_engine.sandbox.bubblewrap import holder, layers, root, seccomp, syscalls
from job_engine.sandbox.bubblewrap.wire import Channel, Message

HOLDER_UID = 0
"""Inside a slot: the holder, mapped to the first of the slot's two host uids."""
STUDENT_UID = 1000
"""Inside a slot: bwrap and the phases, mapped to the second."""


class Zygote:
    """Answers the executor's requests for holders."""

    def __init__(self, channel: Channel, program: bytes) -> None:
        self._channel = channel
        self._program = program
        self._holders: dict[int, int] = {}
        """Process ids by pidfd."""
        self._poll = select.poll()

    def serve(self) -> None:
        """Fork holders until the executor is gone."""
        self._poll.register(self._channel, select.POLLIN)
        while True:
            for fd, _ in self._poll.poll():
                if fd != self._channel.fileno():
                    self._bury(fd)
                    continue
                message = self._channel.receive()
                if message is None:
                    return
                self._spawn(message)

    def _bury(self, pidfd: int) -> None:
        self._poll.unregister(pidfd)
        os.waitpid(self._holders.pop(pidfd), 0)
        os.close(pidfd)

    def _spawn(self, message: Message) -> None:
        try:
            pid, go = self._fork(message)
            pidfd = os.pidfd_open(pid)
            self._holders[pidfd] = pid
            self._poll.register(pidfd, select.POLLIN)
            os.write(go, b"g")
            os.close(go)
            self._channel.send({"pid": pid}, fds=[pidfd])
        except OSError as error:
            self._channel.send({"error": str(error)})
        finally:
            for fd in message.fds:
                os.close(fd)

    def _fork(self, message: Message) -> tuple[int, int]:
        """Return the holder's host pid, and the descriptor whose byte lets it start.

        The child in between enters the namespaces, forks the holder as process 1 of the
        new pid namespace, and ends; the holder is then this process's child.
        """
        here, there = socket.socketpair()
        start, go = os.pipe()
        middle = os.fork()
        if middle == 0:
            keep = {there.fileno(), start, *message.fds}
            syscalls.close_all_but(keep)
            _enter_slot(there, message, start, self._program)
        there.close()
        os.close(start)
        try:
            with here:
                _expect(here.recv(256), b"unshared")
                base = int(message.head["uid"])
                for kind in ("uid", "gid"):
                    with open(f"/proc/{middle}/{kind}_map", "w", encoding="ascii") as file:
                        file.write(_mapping(base, message.head["range"]))
                here.send(b"mapped")
                answer = here.recv(256)
        except BaseException:
            os.close(go)
            raise
        finally:
            os.waitpid(middle, 0)
        if not answer.isdigit():
            os.close(go)
            raise OSError(answer.decode(errors="replace") or "the slot's first process died")
        return int(answer), go


def _mapping(base: int, first: int | None) -> str:
    """Return the ids of a slot: holder, student, and the range where the slot is its own root."""
    wide = "" if first is None else f"{layers.RANGE_FIRST} {first} {layers.RANGE}\n"
    return f"{HOLDER_UID} {base} 1\n{STUDENT_UID} {base + 1} 1\n{wide}"


def _expect(answer: bytes, wanted: bytes) -> None:
    if answer != wanted:
        raise OSError(answer.decode(errors="replace") or "the slot's first process died")


def _enter_slot(zygote: socket.socket, message: Message, start: int, program: bytes) -> None:
    """Drop host root, enter the slot's namespaces, fork the holder. Never returns."""
    code = 1
    try:
        channel_fd, lock_fd, *group_fds = message.fds
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("500")
        for fd in group_fds:
            os.write(fd, b"0")
            os.close(fd)
        base = int(message.head["uid"])
        if message.head["layers"]:
            # In a mount namespace owned by host root, so that the slot cannot change their flags.
            syscalls.unshare(syscalls.CLONE_NEWNS)
            layers.attach(message.head["layers"], message.head["range"])
        os.setgroups([])
        _be(base)
        syscalls.unshare(
            syscalls.CLONE_NEWUSER
            | syscalls.CLONE_NEWNS
            | syscalls.CLONE_NEWPID
            | syscalls.CLONE_NEWIPC
            | syscalls.CLONE_NEWUTS
            | syscalls.CLONE_NEWNET
        )
        zygote.send(b"unshared")
        _expect(zygote.recv(256), b"mapped")
        _be(HOLDER_UID)
        pid = os.fork()
        if pid == 0:
            zygote.close()
            _become_holder(channel_fd, lock_fd, start, program)
        zygote.send(str(pid).encode())
        code = 0
    except BaseException as error:  # noqa: BLE001 - the process ends, whatever it was
        with contextlib.suppress(OSError):
            zygote.send(f"entering the slot: {error}".encode()[:256])
    finally:
        os._exit(code)


def _be(uid: int) -> None:
    """Switch to a user, and the group of the same number, irrevocably."""
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def _become_holder(channel_fd: int, lock_fd: int, start: int, program: bytes) -> None:
    """Become the holder, process 1 of the slot. Never returns."""
    try:
        # Only now the zygote is this process's parent, with which it must end.
        # After the change of ids, which clears this setting.
        if os.read(start, 1) == b"g":
            os.close(start)
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
            os.set_inheritable(lock_fd, False)
            holder.Holder(Channel(socket.socket(fileno=channel_fd)), program).serve()
    except BaseException:  # noqa: BLE001 - the process ends, whatever it was
        traceback.print_exc()
    finally:
        os._exit(0)


def main() -> None:
    """Serve on the socket whose descriptor is the first argument."""
    fd, kvm, rootfs, kept = sys.argv[1:]
    channel = Channel(socket.socket(fileno=int(fd)))
    channel.sock.set_inheritable(False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.umask(0o022)
    try:
        program = seccomp.build(os.uname().machine)
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
        root.enter(rootfs or None, kept or None, kvm == "kvm")
    except (OSError, KeyError) as error:
        channel.send({"error": f"the sandbox's root file system: {error}"})
        return
    gc.collect()
    gc.freeze()
    channel.send({"ready": True})
    Zygote(channel, program).serve()


if __name__ == "__main__":
    main()
