"""The process of a phase between fork and exec of bwrap: limits, network, descriptors, identity."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import socket
from typing import Final, NoReturn

from job_engine.sandbox.bubblewrap import layers, syscalls
from job_engine.sandbox.bubblewrap.wire import Channel, Message
from job_engine.sandbox.waiting_sockets import TCP_RMEM

STATUS_FD: Final = 3
SECCOMP_FD: Final = 4
OPTIONS_FD: Final = 5
BLOCK_FD: Final = 6
MOUNT_FLAGS: Final = syscalls.MS_NOSUID | syscalls.MS_NODEV
_SPARE_FD: Final = 64


def run(message: Message, program: int, status: int, gate: int, owner: int) -> NoReturn:
    """Exec bwrap as the owner of the slot's trees; it waits for a byte from `gate`.

    The message carries stdin, stdout, stderr, a channel and the cgroups' procs files. Over that
    channel the executor is sent the socket for the egress proxy (if the phase has one) just
    before the exec, or an error.
    """
    stdin, stdout, stderr, news, *groups = message.fds
    channel = Channel(socket.socket(fileno=news))
    try:
        # Opened again, because a phase and its companion may read it at the same time.
        program = os.open(f"/proc/self/fd/{program}", os.O_RDONLY)
        _join(groups)
        _enter_own_network()
        _see_own_processes()
        listener = _listen(message.head["listen"])
        _limit(message.head["rlimits"])
        _become(owner, own_root=message.head["own_root"])
        channel.send({"started": True}, fds=[listener] if listener is not None else [])
        # Python ignores the first two, and the zygote the others; programs expect the defaults.
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        words = message.body.split(b"\0")
        options, command = words[: message.head["options"]], words[message.head["options"] :]
        _arrange([stdin, stdout, stderr, status, program, _file_of(options), gate])
        os.execve("/usr/bin/bwrap", [b"bwrap", b"--args", b"%d" % OPTIONS_FD, b"--", *command], {})
    except BaseException as error:  # noqa: BLE001 - the process ends, whatever it was
        channel.send({"broken": f"starting the phase: {error}"})
    finally:
        os._exit(1)


def _join(groups: list[int]) -> None:
    """Move to the phase's cgroups, and become the first process killed when memory runs out."""
    for fd in groups:
        # Opened by the executor, with whose permission the process moves.
        os.write(fd, b"0")
    # If the slot runs out of memory, the phase is killed before the holder. A process that has
    # changed its user may write to its own /proc only while it is dumpable.
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")


def _enter_own_network() -> None:
    """Enter a new network namespace, so that no earlier phase can hold a port."""
    syscalls.unshare(syscalls.CLONE_NEWNET)
    syscalls.bring_loopback_up()
    with open("/proc/sys/net/ipv4/tcp_rmem", "w", encoding="ascii") as file:
        file.write(TCP_RMEM)


def _see_own_processes() -> None:
    """Mount a /proc of the new pid namespace, in which this process is the first, for bwrap."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("proc", "/proc", "proc", MOUNT_FLAGS | syscalls.MS_NOEXEC)


def _become(owner: int, *, own_root: bool) -> None:
    """Switch irrevocably to the owner of the slot's trees, or to root of the slot's own users."""
    os.setgroups([])
    if own_root:
        _enter_own_users()
        owner = 0
    os.setresgid(owner, owner, owner)
    os.setresuid(owner, owner, owner)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)


def _enter_own_users() -> None:
    """Enter a user namespace that maps the slot's range of ids to 0 and up, and no other id."""
    start, notify = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        # Stays in the slot's own namespace, from which alone the mapping can be written.
        code = 1
        try:
            if os.read(start, 1) == b"u":
                layers.map_range(parent)
                code = 0
        finally:
            os._exit(code)
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    os.write(notify, b"u")
    if os.waitpid(pid, 0)[1] != 0:
        raise OSError("the ids of the slot's root cannot be mapped")


def _file_of(options: list[bytes]) -> int:
    """Return a file with the options, so that the host's process list does not show them."""
    fd = os.memfd_create("options")
    data = b"".join(option + b"\0" for option in options)
    if os.write(fd, data) != len(data):
        raise OSError("cannot write the options of bwrap")
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _listen(address: list[str | int] | None) -> int | None:
    if address is None:
        return None
    host, port = address
    sock = socket.create_server((str(host), int(port)), backlog=128)
    return sock.detach()


def _limit(rlimits: list[tuple[str, int]]) -> None:
    for name, value in rlimits:
        number = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(number)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (bound, bound))


def _arrange(fds: list[int]) -> None:
    """Move the descriptors to 0, 1, 2, … and close all others."""
    # Copied to high numbers first, so that no move overwrites one that is still needed.
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, _SPARE_FD) for fd in fds]
    for target, fd in enumerate(moved):
        os.dup2(fd, target, inheritable=True)
    os.closerange(len(fds), syscalls.MAX_FD)
