"""Connections that wait to be accepted: kernel memory that no control group counts.

The kernel charges a connection, and the data sent on it, to the process that accepts it, and
until then to none (`sk_clone_lock`: "will be populated at accept() time"). The memory is part of
the host's budget for TCP (`net.ipv4.tcp_mem`); when that is used up, connections of all other
services of the host fail. A program may have thousands of listeners, with thousands of waiting
connections each. So the buffers of connections are made small in a phase's network, and the
number of its sockets is checked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

TCP_RMEM: Final = "4096 16384 262144"
"""`net.ipv4.tcp_rmem` of a phase's network: least, first and largest size of what a connection
receives, in bytes. The first, which a reader soon makes grow, is an eighth of the kernel's; the
last, up to which errors may wait too, is far less, and as fast between neighbours."""
MAX_SOCKETS: Final = 6_000
"""Sockets of a phase's network: 120 MB, should all of them wait."""
MAX_DATAGRAM_BYTES: Final = 32 * 2**20
"""What may wait at all UDP sockets of a phase; of what is charged, far less fits its memory."""
_PERIOD_S: Final = 0.25
"""CPU time of a phase from one look to the next: enough for 2,000 connections."""


class SocketGauge:
    """Checks whether the network of a phase has too many sockets; for one thread.

    Args:
        processes: returns the phase's processes that are visible.
        proc: mount point of procfs.
    """

    def __init__(self, processes: Callable[[], Iterable[int]], proc: Path = Path("/proc")) -> None:
        self._processes = processes
        self._proc = proc
        self._next_look = _PERIOD_S

    def exceeded(self, cpu_time_s: float) -> bool:
        """Return whether it has; counts again only after the phase has used more CPU time."""
        if cpu_time_s < self._next_look:
            return False
        self._next_look = cpu_time_s + _PERIOD_S
        for pid in self._processes():
            # All of them share the network, so the first one that is alive is enough.
            with contextlib.suppress(OSError):
                return _has_too_much(self._proc / f"{pid}/net")
        return False


def _has_too_much(network: Path) -> bool:
    return (
        sockets(network) > MAX_SOCKETS
        or _datagram_bytes(network / "udp") + _datagram_bytes(network / "udp6") > MAX_DATAGRAM_BYTES
    )


def sockets(network: Path) -> int:
    """Return how many sockets a network has, open or waiting to be accepted.

    `network` is its directory in procfs, `/proc/<pid>/net`.
    """
    first = (network / "sockstat").read_text().split("\n", 1)[0]
    return int(first.rsplit(" ", 1)[-1])


def _datagram_bytes(table: Path) -> int:
    """Return the waiting bytes of the sockets in a table, whose fifth column is `sent:received`."""
    with contextlib.suppress(FileNotFoundError):  # A kernel without IPv6.
        lines = table.read_text().splitlines()[1:]
        return sum(int(line.split()[4].partition(":")[2], 16) for line in lines)
    return 0
