"""Uploaded bytes as files: one directory, each file named by the SHA-256 of its content."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
from pathlib import Path
from typing import IO, Final

from job_engine.errors import NotFoundError

SHA256: Final = re.compile(r"[0-9a-f]{64}")
ABANDONED_S: Final = 3600.0
"""Seconds without a byte after which an incomplete upload counts as abandoned."""


class BlobFiles:
    """A content-addressed directory; every file in it is complete."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._incoming = directory / "incoming"

    def prepare(self) -> None:
        """Create the directories, and remove what broken uploads left behind."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._incoming.mkdir(mode=0o700, exist_ok=True)
        for left in self._incoming.iterdir():
            if (
                time.time() - left.stat().st_mtime > ABANDONED_S
            ):  # or another process may be writing it
                left.unlink(missing_ok=True)

    def receive(self) -> Incoming:
        """Begin an upload."""
        return Incoming(self, self._incoming)

    def path(self, digest: str) -> Path:
        """Return where the bytes of a digest are. Raises `NotFoundError`."""
        path = self._place(digest)
        if not path.is_file():
            raise NotFoundError(f"blob/{digest} not found")
        return path

    def remove(self, digest: str) -> None:
        """Delete the bytes of a digest."""
        self._place(digest).unlink(missing_ok=True)

    def adopt(self, file: Path, digest: str) -> None:
        """Move a complete file to its place; durable when this returns."""
        place = self._place(digest)
        place.parent.mkdir(mode=0o700, exist_ok=True)
        os.replace(file, place)
        for directory in (place.parent, self._directory):
            _sync(directory)

    def _place(self, digest: str) -> Path:
        if not SHA256.fullmatch(digest):
            raise NotFoundError(f"blob/{digest} not found")
        return self._directory / digest[:2] / digest


class Incoming:
    """An upload in progress: `write`, `complete`, `adopt`, and `discard` in any case."""

    def __init__(self, files: BlobFiles, directory: Path) -> None:
        self._files = files
        handle, name = tempfile.mkstemp(dir=directory)
        self._path = Path(name)
        self._file: IO[bytes] = os.fdopen(handle, "wb")
        self._hash = hashlib.sha256()
        self.size = 0
        """Bytes so far."""

    def write(self, chunk: bytes) -> None:
        """Add bytes."""
        self._file.write(chunk)
        self._hash.update(chunk)
        self.size += len(chunk)

    def complete(self) -> str:
        """Make the bytes durable, and return their digest."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return self._hash.hexdigest()

    def adopt(self) -> None:
        """Move the complete file to the place that its digest names."""
        self._files.adopt(self._path, self._hash.hexdigest())

    def discard(self) -> None:
        """Delete the file unless it was adopted."""
        self._file.close()
        self._path.unlink(missing_ok=True)


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
