"""Noticing the end of a container through the kernel, which is faster than through Docker.

Docker reports the end of a container, and closes its output, after it has cleaned up, some
50 ms later. An executor that sees the daemon's processes waits for the container's first
process instead: when that has ended, all others have. The kernel also has its exit status
(`PIDFD_GET_INFO`, Linux 6.15; linux/pidfd.h); with older kernels Docker reports it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import select
import struct
import time
from pathlib import Path
from typing import Final

_PIDFD_GET_INFO: Final = 0xC040_FF0B
"""_IOWR(PIDFS_IOCTL_MAGIC, 11, struct pidfd_info), whose first version has 64 bytes."""
_INFO_EXIT: Final = 1 << 3
_INFO_BYTES: Final = 64
_EXIT_CODE_AT: Final = 60
_REAP_S: Final = 1.0
_GRAIN_S: Final = 0.0005
_STREAMS: Final = (1, 2)


class FirstProcess:
    """Process 1 of a running container; close it.

    It holds the container's output open, because `mark` writes to it; call `release` before
    Docker is asked to wait for the container.
    """

    def __init__(self, pid: int) -> None:
        self._pidfd = os.pidfd_open(pid)
        self._outputs: list[int] = []
        self._token = b""
        try:
            for stream in _STREAMS:
                flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
                self._outputs.append(os.open(f"/proc/{pid}/fd/{stream}", flags))
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when every process has ended."""
        return self._pidfd

    def ended(self) -> bool:
        """Return whether every process has ended."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def exit_code(self) -> int | None:
        """Return the exit status, once ended, or minus the signal that ended it.

        None: this kernel does not tell.
        """
        until = time.monotonic() + _REAP_S
        while time.monotonic() < until:
            info = bytearray(_INFO_BYTES)
            struct.pack_into("Q", info, 0, _INFO_EXIT)
            try:
                fcntl.ioctl(self._pidfd, _PIDFD_GET_INFO, info)
            except OSError:
                return None
            # Only known once the parent process has waited for it.
            if struct.unpack_from("Q", info, 0)[0] & _INFO_EXIT:
                return os.waitstatus_to_exitcode(struct.unpack_from("i", info, _EXIT_CODE_AT)[0])
            time.sleep(_GRAIN_S)
        return None

    def mark(self) -> bytes:
        """Write random bytes at the end of both outputs, and return them.

        They are drawn after all processes have ended, so none of them can have written
        them. Raises `BlockingIOError` while the output is full.
        """
        self._token = self._token or secrets.token_bytes(16)
        while self._outputs:
            os.write(self._outputs[-1], self._token)
            os.close(self._outputs.pop())
        return self._token

    def release(self) -> None:
        """Close the output. Idempotent."""
        while self._outputs:
            os.close(self._outputs.pop())

    def close(self) -> None:
        """Close everything. Idempotent."""
        self.release()
        if self._pidfd >= 0:
            os.close(self._pidfd)
        self._pidfd = -1


def first_process(container: str, pid: int) -> FirstProcess | None:
    """Return the first process of a running container; None if it is not visible.

    Args:
        container: its id.
        pid: its pid in the daemon's pid namespace.
    """
    with contextlib.suppress(OSError):
        if pid > 0 and container in Path(f"/proc/{pid}/cgroup").read_text():
            return FirstProcess(pid)
    return None
