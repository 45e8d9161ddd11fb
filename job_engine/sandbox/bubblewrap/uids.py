"""Pairs of host uids for slots, leased by file locks.

The slot's holder inherits the lock, so it is free only when both the executor and the holder
have ended. No later slot can share a uid with a surviving process.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from job_engine.errors import SandboxError

UIDS_PER_SLOT: Final = 2
"""One for the holder, one for bwrap and the phases."""


class UidLease:
    """A pair of uids, ours until `release`."""

    def __init__(self, first: int, lock: int) -> None:
        self.first = first
        self.lock = lock

    def release(self) -> None:
        """Give it back. Idempotent."""
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1


class UidPool:
    """All pairs of this host, shared by every executor that has the same directory."""

    def __init__(self, directory: Path, first: int, slots: int) -> None:
        self._directory = directory
        self._first = first
        self._slots = slots

    def lease(self) -> UidLease:
        """Return a free pair. Raises `SandboxError` when none is."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for index in range(self._slots):
                lock = self._try(index)
                if lock is not None:
                    return UidLease(self._first + index * UIDS_PER_SLOT, lock)
        except OSError as error:
            raise SandboxError(f"cannot lease a uid in {self._directory}: {error}") from error
        raise SandboxError(f"all {self._slots} uid ranges for slots are in use")

    def _try(self, index: int) -> int | None:
        name = self._directory / str(self._first + index * UIDS_PER_SLOT)
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd
