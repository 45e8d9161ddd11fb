"""The end of a container, as the kernel tells it: at once, where the container is in sight.

Docker says that a container has ended once it has cleaned up after it, some 50 ms later, and
closes its output then. An executor that sees the daemon's processes waits for the first one
of the container itself: when that has ended, all others have. Its exit status is the kernel's
too (`PIDFD_GET_INFO`, Linux 6.15; linux/pidfd.h); older kernels leave it to Docker.
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

    It holds the container's output open, at which `mark` writes, and so must be let go of
    (`release`) before Docker is asked to wait for its end.
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
        """Whether it has."""
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
            # Known from when its parent has asked for it.
            if struct.unpack_from("Q", info, 0)[0] & _INFO_EXIT:
                return os.waitstatus_to_exitcode(struct.unpack_from("i", info, _EXIT_CODE_AT)[0])
            time.sleep(_GRAIN_S)
        return None

    def mark(self) -> bytes:
        """Write the same random bytes behind all output, and return them.

        Drawn when nobody is left who could have written them before. Raises
        `BlockingIOError` while nobody reads the output.
        """
        self._token = self._token or secrets.token_bytes(16)
        while self._outputs:
            os.write(self._outputs[-1], self._token)
            os.close(self._outputs.pop())
        return self._token

    def release(self) -> None:
        """Hold the output open no longer. Idempotent."""
        while self._outputs:
            os.close(self._outputs.pop())

    def close(self) -> None:
        """Let go of it. Idempotent."""
        self.release()
        if self._pidfd >= 0:
            os.close(self._pidfd)
        self._pidfd = -1


def first_process(container: str, pid: int) -> FirstProcess | None:
    """Return the first process of a running container; None where it is not in sight.

    Args:
        container: its id.
        pid: what the daemon calls it, which means something in its own pid namespace only.
    """
    with contextlib.suppress(OSError):
        if pid > 0 and container in Path(f"/proc/{pid}/cgroup").read_text():
            return FirstProcess(pid)
    return None
