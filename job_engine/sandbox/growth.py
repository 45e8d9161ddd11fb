"""Reads what a file gains while hostile programs may write it: bounded, never through a link.

Looked at again and again by its name, below a tree that is held by descriptor. Whatever stands
on the way that is no directory, or in the end is no regular file, is not opened: `O_PATH` has
no effect on what it finds, and cannot wait for it. Runs in the holders of bubblewrap too, so it
imports little.
"""

from __future__ import annotations

import os
import stat
from typing import Final

PERIOD_S: Final = 0.2
"""How often it is worth looking."""
LOOK_BYTES: Final = 64 * 2**10
"""Most that one look reads, which with the period bounds the rate."""
MAX_BYTES: Final = 4 * 2**20
"""Most that is read in all."""
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ANYTHING: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_REGULAR: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Not to wait: a lease on a file makes others wait who open it."""


class Growth:
    """What one file gains from look to look.

    A file that another takes the place of is read on from where the first one was left; one
    that has become shorter than that is not looked at any more.
    """

    def __init__(self, path: str) -> None:
        """`path` is relative to the root of the tree."""
        self._parts = [part for part in path.split("/") if part not in ("", ".")]
        self._read = 0
        self._over = False

    def look(self, tree: int) -> bytes:
        """Return what is new, at most `LOOK_BYTES`; `tree` is a descriptor of the root.

        Never waits, and never raises: what cannot be read has gained nothing.
        """
        if self._over:
            return b""
        try:
            file = self._open(tree)
        except (OSError, ValueError):  # The latter of a name that is none.
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
        """Open the file for reading, if it is one; raises `OSError`."""
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
