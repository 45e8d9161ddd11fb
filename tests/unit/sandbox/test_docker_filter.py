"""Docker's system-call profile, read as libseccomp reads it: all 64 bits of an argument."""

from __future__ import annotations

import errno
import json
from typing import Any

import pytest

from job_engine.sandbox.docker.seccomp import profile

ALLOW = "allow"
ABOVE = 1 << 32
"""What the kernel does not look at, where it reads an int."""
RULES = json.loads(profile())["syscalls"]


def holds(test: dict[str, Any], value: int) -> bool:
    match test["op"]:
        case "SCMP_CMP_EQ":
            return bool(value == test["value"])
        case "SCMP_CMP_NE":
            return bool(value != test["value"])
        case other:
            assert other == "SCMP_CMP_MASKED_EQ"
            return bool(value & test["value"] == test["valueTwo"])


def decide(call: str, *arguments: int) -> str | int:
    """Return what the profile says of a call: allow, or an errno."""
    found = {
        ALLOW if rule["action"] == "SCMP_ACT_ALLOW" else rule["errnoRet"]
        for rule in RULES
        if call in rule["names"]
        and all(holds(test, arguments[test["index"]]) for test in rule.get("args", ()))
    }
    assert len(found) <= 1, "two rules that say different things"
    return found.pop() if found else errno.EPERM


@pytest.mark.parametrize(
    ("call", "arguments", "answer"),
    [
        ("fcntl", (3, 6), ALLOW),  # F_SETLK
        ("fcntl", (3, 1033), ALLOW),  # F_ADD_SEALS
        ("fcntl", (3, 37), errno.EINVAL),  # F_OFD_SETLK
        ("fcntl", (3, 37 + ABOVE), errno.EPERM),
        ("ioctl", (3, 0x5401), ALLOW),  # TCGETS
        ("ioctl", (3, 0xFFFF_FFFF_8008_6601), ALLOW),  # FS_IOC_GETFLAGS, as musl passes it
        ("ioctl", (3, 0x5423), errno.EPERM),  # TIOCSETD
        ("ioctl", (3, 0x5423 + ABOVE), errno.EPERM),
        ("setsockopt", (3, 1, 2), ALLOW),  # SO_REUSEADDR
        ("setsockopt", (3, 0, 35), ALLOW),  # IP_ADD_MEMBERSHIP
        ("setsockopt", (3, 41, 26), ALLOW),  # IPV6_V6ONLY
        ("setsockopt", (3, 6, 1), ALLOW),  # TCP_NODELAY
        ("setsockopt", (3, 282, 1), ALLOW),  # a level that is large
        ("setsockopt", (3, 1, 26), errno.EPERM),  # SO_ATTACH_FILTER
        ("setsockopt", (3, 1, 26 + ABOVE), errno.EPERM),
        ("setsockopt", (3, 1 + ABOVE, 26), errno.EPERM),
        ("setsockopt", (3, 1, 29), ALLOW),  # SO_TIMESTAMP, of what is received
        ("setsockopt", (3, 1, 37), errno.ENOPROTOOPT),  # SO_TIMESTAMPING
        ("setsockopt", (3, 0, 11), 0),  # IP_RECVERR: said to be set
        ("setsockopt", (3, 41, 6), errno.ENOPROTOOPT),  # IPV6_2292PKTOPTIONS
        ("setsockopt", (3, 41 + ABOVE, 6), errno.EPERM),
        ("setsockopt", (3, 6, 14), errno.ENOPROTOOPT),  # TCP_MD5SIG
        ("setrlimit", (7, 0x7000), ALLOW),  # of descriptors
        ("setrlimit", (4, 0x7000), 0),  # of cores: said to be done
        ("setrlimit", (4 + ABOVE, 0x7000), errno.EPERM),
        ("prlimit64", (0, 7, 0x7000, 0), ALLOW),
        ("prlimit64", (0, 4, 0, 0x7000), ALLOW),  # what is the limit of cores?
        ("prlimit64", (0, 4, 0x7000, 0), 0),
        ("prlimit64", (0, 4 + ABOVE, 0x7000, 0), errno.EPERM),
        ("prctl", (15, 0x7000), ALLOW),  # PR_SET_NAME
        ("prctl", (0x59616D61, 1), ALLOW),  # PR_SET_PTRACER
        ("prctl", (62, 1), errno.EPERM),  # PR_SCHED_CORE
        ("prctl", (62 + ABOVE, 1), errno.EPERM),
        ("seccomp", (1, 1), ALLOW),  # a filter for all threads
        ("seccomp", (1, 8), errno.EPERM),  # with a listener
        ("fadvise64", (3, 0, 0, 3), ALLOW),  # POSIX_FADV_WILLNEED
        ("fadvise64", (3, 0, 0, 4), 0),  # POSIX_FADV_DONTNEED: said to be done
        ("fadvise64", (3, 0, 0, 4 + ABOVE), errno.EPERM),
        ("fsetxattr", (3, 0x7000, 0x7000, 4, 0), errno.EOPNOTSUPP),
        ("fgetxattr", (3, 0x7000, 0x7000, 4), ALLOW),
        ("mbind", (0, 0, 0, 0, 0, 0), errno.ENOSYS),
        ("personality", (0xFFFF_FFFF,), ALLOW),
        ("personality", (0x0040_0000,), errno.EPERM),
    ],
)
def test_decisions(call: str, arguments: tuple[int, ...], answer: str | int) -> None:
    assert decide(call, *arguments) == answer
