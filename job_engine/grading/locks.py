"""File locks between threads and processes of one host."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_POLL_S: Final = 0.05


@contextmanager
def locked(file: Path, sleep: Callable[[float], None]) -> Iterator[None]:
    """Hold the lock of `file`, which is created; the kernel releases it when the process ends.

    `sleep` is called, with seconds, while another holds it, and may raise to give up. Raises
    `OSError` where the file cannot be opened.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(file, flags, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)
