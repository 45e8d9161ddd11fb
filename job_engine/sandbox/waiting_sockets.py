"""Connections that wait to be accepted: kernel memory that no control group counts.

The kernel charges a connection to the process that accepts it, and until then to none: neither
the socket nor what was sent on it (`sk_clone_lock`: "will be populated at accept() time"). What
waits is taken from the memory that all TCP of the host has (`net.ipv4.tcp_mem`), and past
that the connections of every other service on it begin to fail. A listener may let thousands
wait, and a program have thousands of listeners, so that two things bound it: what waits on one
connection is made small where a phase's network is, and how many sockets there are is watched.
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
    """Tells when the network of a phase has too many sockets. One thread asks it.

    Args:
        processes: returns the phase's processes that are in sight.
        proc: where the kernel tells of processes.
    """

    def __init__(self, processes: Callable[[], Iterable[int]], proc: Path = Path("/proc")) -> None:
        self._processes = processes
        self._proc = proc
        self._next_look = _PERIOD_S

    def exceeded(self, cpu_time_s: float) -> bool:
        """Whether it has; looks only when the phase has used some more CPU time."""
        if cpu_time_s < self._next_look:
            return False
        self._next_look = cpu_time_s + _PERIOD_S
        for pid in self._processes():
            # Any of them will do, as long as it lives.
            with contextlib.suppress(OSError):
                return _has_too_much(self._proc / f"{pid}/net")
        return False


def _has_too_much(network: Path) -> bool:
    return (
        sockets(network) > MAX_SOCKETS
        or _datagram_bytes(network / "udp") + _datagram_bytes(network / "udp6") > MAX_DATAGRAM_BYTES
    )


def sockets(network: Path) -> int:
    """Return how many sockets a network has, whether or not somebody has them open.

    `network` is where the kernel tells of it, `/proc/<pid>/net`.
    """
    first = (network / "sockstat").read_text().split("\n", 1)[0]
    return int(first.rsplit(" ", 1)[-1])


def _datagram_bytes(table: Path) -> int:
    """Return what waits at the sockets of a table, whose fifth column is `sent:received`."""
    with contextlib.suppress(FileNotFoundError):  # A kernel without IPv6.
        lines = table.read_text().splitlines()[1:]
        return sum(int(line.split()[4].partition(":")[2], 16) for line in lines)
    return 0
