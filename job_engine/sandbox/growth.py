"""Reads what a file gains while hostile programs may write it: bounded, never through a link.

The file is opened by name again and again, below a tree that is held by descriptor. `O_PATH`
checks each step first, without side effects and without blocking, so nothing but directories
and, at the end, a regular file is ever opened. It also runs in bubblewrap's holders, so it
imports little.
"""

from __future__ import annotations

import os
import stat
from typing import Final

PERIOD_S: Final = 0.2
"""Seconds between two reads."""
LOOK_BYTES: Final = 64 * 2**10
"""Bytes that one call reads at most; with the period this bounds the rate."""
MAX_BYTES: Final = 4 * 2**20
"""Bytes that are read in all, at most."""
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ANYTHING: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_REGULAR: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Non-blocking, because opening a file with a lease on it would wait."""


class Growth:
    """Reads one file as it grows.

    A file that replaces it is read from the same offset; one that is shorter than that ends
    the reading.
    """

    def __init__(self, path: str) -> None:
        """`path` is relative to the root of the tree."""
        self._parts = [part for part in path.split("/") if part not in ("", ".")]
        self._read = 0
        self._over = False

    def look(self, tree: int) -> bytes:
        """Return new bytes, at most `LOOK_BYTES`; `tree` is a descriptor of the tree's root.

        Never blocks, and never raises: a file that cannot be read has no new bytes.
        """
        if self._over:
            return b""
        try:
            file = self._open(tree)
        except (OSError, ValueError):  # `ValueError` for a name with a NUL
            return b""
        try:
            if os.fstat(file).st_size < self._read:
                self._over = True
                return b""
            data = os.pread(file, min(LOOK_BYTES, MAX_BYTES - self._read), self._read)
        except OSError:
            return b""
        finally:
            os.close(file)
        self._read += len(data)
        self._over = self._read >= MAX_BYTES
        return data

    def _open(self, tree: int) -> int:
        """Open the file for reading if it is a regular one. Raises `OSError`."""
        *directories, name = self._parts
        found = os.dup(tree)
        try:
            for part in directories:
                found = _step(found, os.open(part, _DIRECTORY, dir_fd=found))
            found = _step(found, os.open(name, _ANYTHING, dir_fd=found))
            if not stat.S_ISREG(os.fstat(found).st_mode):
                raise OSError("no regular file")
            return os.open(f"/proc/self/fd/{found}", _REGULAR)
        finally:
            os.close(found)


def _step(left: int, entered: int) -> int:
    os.close(left)
    return entered
