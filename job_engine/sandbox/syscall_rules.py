"""Arguments of system calls that both system-call filters allow or refuse.

The numbers are the same on all supported architectures. Most of the refused arguments would take
kernel memory that no control group counts. The errors are those of kernels without the feature,
which programs handle.
"""

from __future__ import annotations

import errno
from typing import Final

NEW_NAMESPACES: Final = 0x7E02_0000
"""Flags of clone, which are refused."""
PERSONALITIES: Final = (0, 0xFFFF_FFFF, 0x0004_0000)
"""Allowed: Linux, the query, and no address randomisation (which sanitizers ask for)."""
RLIMIT_CORE: Final = 4
"""The limit stays as it is. At 1 no core is written and no program of the host's is started for
it; at 0 that program would be (core(5)). Sanitizers exit if they cannot lower it, so the answer
is that it was set."""
AF_UNIX: Final = 1
AF_NETLINK: Final = 16
NO_NETLINK: Final = errno.EINVAL
"""The error for a netlink socket. PAM (`su`) takes this error and two others for a kernel without
audit, and fails with any other one. ZeroMQ, and so every Jupyter kernel, takes this one for a
kernel that lists no interfaces (`ip_resolver.cpp`), and aborts with those two. The resolver and
Go's network work without netlink too."""
INTERNET_FAMILIES: Final = (2, 10)
"""AF_INET and AF_INET6. Netlink is refused: the kernel's answers wait in memory that no control
group counts, up to `net.core.rmem_max` a socket."""
INTERNET_PROTOCOLS: Final = (0, 6, 17)
"""Allowed: the default, TCP and UDP. For others the kernel would load modules, and what waits at
a socket for echoes (ICMP) is not counted."""
MS_SYNC: Final = 4
"""With it, msync flushes the host's caches, as sync does. Without it, msync reports what is
mapped, which unwinding a stack needs."""
DESCRIPTION_LOCKS: Final = (37, 38)
"""F_OFD_SETLK and F_OFD_SETLKW. Locks take uncounted memory, and these can be held by descriptors
in transit between processes, where they cannot be found. The answer is that of kernels without
them."""
SOCKET_OPTIONS: Final[dict[int, dict[int, int]]] = {
    # SO_ATTACH_FILTER and SO_ATTACH_REUSEPORT_CBPF are compiled into one stock of the whole host
    # (`net.core.bpf_jit_limit`), without which no sandbox gets its own filter. SO_TIMESTAMPING,
    # in both its forms, has copies of what is sent wait with the socket, as errors do.
    1: {26: errno.EPERM, 51: errno.EPERM, 37: errno.ENOPROTOOPT, 65: errno.ENOPROTOOPT},
    # IP_RECVERR, by which errors wait to be read; the resolver sets it, and ends where it cannot.
    0: {11: 0},
    # TCP_MD5SIG, TCP_ULP, TCP_MD5SIG_EXT, TCP_AO_ADD_KEY.
    6: dict.fromkeys((14, 31, 32, 38), errno.ENOPROTOOPT),
    # IPV6_2292PKTOPTIONS, IPV6_ADD_MEMBERSHIP, IPV6_JOIN_ANYCAST, IPV6_FLOWLABEL_MGR,
    # MCAST_JOIN_GROUP, MCAST_JOIN_SOURCE_GROUP, MCAST_MSFILTER; and IPV6_RECVERR. IPv4 takes
    # twenty memberships a socket, which are small.
    41: {**dict.fromkeys((6, 20, 27, 32, 42, 46, 48), errno.ENOPROTOOPT), 25: 0},
}
"""Answers to setsockopt by level and name; 0: that it was set. The kernel keeps the values of some
for the socket, up to `net.core.optmem_max` (128 KiB), in uncounted memory."""
FILTER_LISTENER: Final = 8
"""SECCOMP_FILTER_FLAG_NEW_LISTENER: a filter that lives as long as a descriptor of it is
open, and not only as long as its process; of the same stock as the filters of sockets."""
CORE_SCHEDULING: Final = 62
"""PR_SCHED_CORE: a process with its own cookie keeps the sibling thread of its core idle."""
DROP_CACHE: Final = 4
"""POSIX_FADV_DONTNEED: it has no effect on files in memory; for the host's files, other phases
would have to read them from disk again."""
LINE_DISCIPLINE: Final = 0x5423
"""TIOCSETD: it makes the kernel load drivers (modems and others) for a terminal of the phase."""
