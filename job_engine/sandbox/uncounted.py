"""Arguments of system calls by which a phase would take what no control group counts.

Both system-call filters refuse them. Numbers are those of every architecture that has a
filter. What a course's program needs is not among them; the answers are those of kernels that
were built without the feature, which programs know what to make of.
"""

from __future__ import annotations

import errno
from typing import Final

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
"""What is answered to options of sockets, by level and name; 0: that it is set. The kernel keeps
the values of some for the socket, up to `net.core.optmem_max` (128 KiB), in memory of its own."""
FILTER_LISTENER: Final = 8
"""SECCOMP_FILTER_FLAG_NEW_LISTENER: a filter that lives as long as somebody holds a descriptor
of it, and not only as long as its process; of the same stock as the filters of sockets."""
CORE_SCHEDULING: Final = 62
"""PR_SCHED_CORE: whose cookie is their own has the other half of their core stand still."""
DROP_CACHE: Final = 4
"""POSIX_FADV_DONTNEED: of files in memory it drops nothing, and of the host's, which everybody
reads, what others would have to read from the disk again."""
LINE_DISCIPLINE: Final = 0x5423
"""TIOCSETD: has the kernel load drivers of modems and the like for a terminal of its own."""
