"""The system-call filter, run by an interpreter of classic BPF, for both machines."""

from __future__ import annotations

import errno
import struct

import pytest

from job_engine.sandbox.bubblewrap.seccomp import build

ALLOW = "allow"
KILL = "kill"
ANSWERS = {0x7FFF0000: ALLOW, 0x80000000: KILL}
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
I386 = 0x40000003


def decide(machine: str, number: int, *arguments: int, arch: int | None = None) -> str | int:
    """Return what the filter says about a call: allow, kill, or an errno."""
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=IIQ6Q", number, ARCH[machine] if arch is None else arch, 0, *padded)
    program = list(struct.iter_unpack("=HBBI", build(machine)))
    position = 0
    register: int = 0
    while True:
        code, if_true, if_false, value = program[position]
        position += 1
        if code == 0x20:
            (register,) = struct.unpack_from("=I", data, value)
        elif code == 0x54:
            register &= value
        elif code == 0x15:
            position += if_true if register == value else if_false
        elif code == 0x35:
            position += if_true if register >= value else if_false
        else:
            assert code == 0x06
            if value in ANSWERS:
                return ANSWERS[value]
            return int(value) & 0xFFFF


@pytest.mark.parametrize(
    ("x86_64", "aarch64", "arguments", "answer"),
    [
        (0, 63, (), ALLOW),  # read
        (59, 221, (), ALLOW),  # execve
        (101, 117, (), ALLOW),  # ptrace
        (272, 97, (0x10000000,), errno.EPERM),  # unshare
        (165, 40, (), errno.EPERM),  # mount
        (321, 280, (), errno.EPERM),  # bpf
        (425, 425, (), errno.EPERM),  # io_uring_setup
        (435, 435, (), errno.ENOSYS),  # clone3
        (56, 220, (0x01200011,), ALLOW),  # clone: fork
        (56, 220, (0x003D0F00,), ALLOW),  # clone: thread
        (56, 220, (0x10000011,), errno.EPERM),  # clone: user namespace
        (56, 220, (0x40000011,), errno.EPERM),  # clone: network namespace
        (56, 220, (0x00020011,), errno.EPERM),  # clone: mount namespace
        (16, 29, (0, 0x5401), ALLOW),  # ioctl TCGETS
        (16, 29, (0, 0x5412), errno.EPERM),  # ioctl TIOCSTI
        (16, 29, (0, 0x1_0000_5412), errno.EPERM),  # the kernel looks at the low half only
        (135, 92, (0xFFFFFFFF,), ALLOW),  # personality: query
        (135, 92, (0x0040000,), ALLOW),  # personality: no randomisation
        (135, 92, (0x0400000,), errno.EPERM),  # personality: READ_IMPLIES_EXEC
        (41, 198, (1,), ALLOW),  # socket AF_UNIX
        (41, 198, (10,), ALLOW),  # socket AF_INET6
        (41, 198, (2, 1, 6), ALLOW),  # socket AF_INET, TCP
        (41, 198, (2, 2, 1), errno.EPROTONOSUPPORT),  # socket AF_INET, ICMP
        (41, 198, (10, 1, 262), errno.EPROTONOSUPPORT),  # socket AF_INET6, MPTCP
        (41, 198, (17,), errno.EAFNOSUPPORT),  # socket AF_PACKET
        (41, 198, (40,), errno.EAFNOSUPPORT),  # socket AF_VSOCK
        (41, 198, (16, 3, 0), errno.EINVAL),  # socket AF_NETLINK
        (54, 208, (5, 1, 2), ALLOW),  # setsockopt SO_REUSEADDR
        (54, 208, (5, 1, 26), errno.EPERM),  # setsockopt SO_ATTACH_FILTER
        (54, 208, (5, 6, 26), ALLOW),  # setsockopt of TCP
        (54, 208, (5, 1, 65), errno.ENOPROTOOPT),  # setsockopt SO_TIMESTAMPING_NEW
        (54, 208, (5, 0, 11), 0),  # setsockopt IP_RECVERR: said to be set
        (54, 208, (5, 0, 35), ALLOW),  # setsockopt IP_ADD_MEMBERSHIP
        (54, 208, (5, 41, 26), ALLOW),  # setsockopt IPV6_V6ONLY
        (54, 208, (5, 41, 6), errno.ENOPROTOOPT),  # setsockopt IPV6_2292PKTOPTIONS
        (54, 208, (5, 41, 48), errno.ENOPROTOOPT),  # setsockopt MCAST_MSFILTER
        (54, 208, (5, 6, 14), errno.ENOPROTOOPT),  # setsockopt TCP_MD5SIG
        (188, 5, (), errno.EOPNOTSUPP),  # setxattr
        (191, 8, (), ALLOW),  # getxattr
        (237, 235, (), errno.ENOSYS),  # mbind
        (451, 451, (), errno.ENOSYS),  # cachestat
        (466, 466, (), ALLOW),  # removexattrat
        (469, 469, (), errno.ENOSYS),  # what is younger than the filter
        (16, 29, (0, 0x5423), errno.EPERM),  # ioctl TIOCSETD
        (157, 167, (15,), ALLOW),  # prctl PR_SET_NAME
        (157, 167, (62,), errno.EINVAL),  # prctl PR_SCHED_CORE
        (317, 277, (1, 1), ALLOW),  # seccomp: a filter for all threads
        (317, 277, (1, 9), errno.EINVAL),  # the same, with a listener
        (221, 223, (3, 0, 0, 3), ALLOW),  # fadvise64 POSIX_FADV_WILLNEED
        (221, 223, (3, 0, 0, 4), 0),  # fadvise64 POSIX_FADV_DONTNEED: said to be done
        (162, 81, (), 0),  # sync: said to be done
        (72, 25, (3, 6, 0x7000), ALLOW),  # fcntl F_SETLK
        (72, 25, (3, 37, 0x7000), errno.EINVAL),  # fcntl F_OFD_SETLK
        (74, 82, (3,), 0),  # fsync
        (75, 83, (3,), 0),  # fdatasync
        (277, 84, (3, 0, 0, 2), 0),  # sync_file_range
        (26, 227, (0x7000, 4096, 4), 0),  # msync MS_SYNC
        (26, 227, (0x7000, 4096, 6), 0),  # the same, and MS_INVALIDATE
        (26, 227, (0x7000, 4096, 1), ALLOW),  # msync MS_ASYNC: tells what is mapped
        (53, 199, (38,), errno.EAFNOSUPPORT),  # socketpair AF_ALG
        (206, 0, (1,), errno.ENOSYS),  # io_setup
        (160, 164, (4, 0x7000), 0),  # setrlimit of the core limit: said to be done
        (160, 164, (7, 0x7000), ALLOW),  # setrlimit of the descriptors
        (302, 261, (0, 4, 0x7000, 0), 0),  # prlimit of the core limit
        (302, 261, (0, 4, 0x7_0000_0000, 0), 0),  # by a pointer whose low half is null
        (302, 261, (0, 4, 0, 0x7000), ALLOW),  # prlimit: what is the core limit?
        (302, 261, (0, 7, 0x7000, 0), ALLOW),  # prlimit of the descriptors
    ],
)
def test_decisions(
    x86_64: int, aarch64: int, arguments: tuple[int, ...], answer: str | int
) -> None:
    assert decide("x86_64", x86_64, *arguments) == answer
    assert decide("aarch64", aarch64, *arguments) == answer


def test_foreign_call_tables_are_killed() -> None:
    assert decide("x86_64", 1, arch=I386) == KILL
    assert decide("x86_64", 0x40000000) == KILL
    assert decide("aarch64", 1, arch=0x40000028) == KILL


def test_calls_are_told_apart_by_machine() -> None:
    assert decide("aarch64", 165) == ALLOW  # getrusage there, mount on x86_64
    assert decide("x86_64", 40) == ALLOW  # sendfile there, mount on aarch64


def test_an_unknown_machine_has_no_filter() -> None:
    with pytest.raises(KeyError):
        build("riscv64")
