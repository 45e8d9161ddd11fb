"""The scratch directory of one executor, in which each run gets a directory of its own."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

from job_engine.errors import ConfigurationError


class Scratch:
    """The directory `<base>/<executor's name>`: locked while in use, emptied by `open`."""

    def __init__(self, base: Path, name: str) -> None:
        self.root = base / name
        """Where scratch directories are made."""
        self._base = base
        self._name = name
        self._lock: int | None = None

    def open(self) -> None:
        """Lock the directory for this process, and remove what an earlier one left.

        Raises `ConfigurationError` when a running executor has the name already, or
        the directory cannot be made.
        """
        try:
            self._base.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self._base / f"{self._name}.lock", os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"Another executor named {self._name!r} runs on this machine; "
                "give this one a name of its own with --name."
            ) from None
        except OSError as error:
            raise ConfigurationError(
                f"Cannot use the scratch directory {self._base}: {error}. "
                "Name another with --scratch-dir."
            ) from error
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(mode=0o700, exist_ok=True)

    def close(self) -> None:
        """Remove the directory, and unlock its name."""
        shutil.rmtree(self.root, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
