"""Reads hostile directories: bounded, by descriptor, never through a link."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterable, Iterator
from typing import Final

from job_engine.sandbox.bubblewrap.wire import CHUNK_BYTES

MAX_DEPTH: Final = 32
MAX_LEFT_OUT: Final = 1_000
"""Most names that are reported; all further ones are reported as one."""
MAX_LOOKED_AT: Final = 50_000
"""Most entries of any kind that one hand-over or search reads: reading them costs more than
making them, and the executor waits for the answer."""
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Harvest:
    """The regular files below a directory, up to caps; others are named in `left_out`."""

    def __init__(self, max_bytes: int, max_files: int) -> None:
        self.left_out: list[str] = []
        self._bytes = max_bytes
        self._files = max_files
        self._seen: set[str] = set()
        self._looked_at = 0
        self._full = False

    def files(self, tree: str, path: str) -> Iterator[tuple[str, int, Iterator[bytes]]]:
        """Yield (name, size, content in chunks) of each file; read each before the next."""
        prefix = "/".join([os.path.basename(tree), *_parts(path)])
        try:
            directory = _descend(tree, path)
        except FileNotFoundError:
            return
        except OSError:
            self._leave_out(prefix)
            return
        yield from self._below(directory, prefix, 0)

    def _below(
        self, directory: int, prefix: str, depth: int
    ) -> Iterator[tuple[str, int, Iterator[bytes]]]:
        try:
            # Sorted, so that the same tree gives the same files whatever the order on disk.
            names = sorted(os.listdir(directory))
            for name in names:
                if self._full:
                    return
                yield from self._entry(directory, name, f"{prefix}/{_text(name)}", depth)
        finally:
            os.close(directory)

    def _entry(
        self, directory: int, name: str, shown: str, depth: int
    ) -> Iterator[tuple[str, int, Iterator[bytes]]]:
        self._looked_at += 1
        if self._looked_at > MAX_LOOKED_AT:
            self._stop()
            return
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode) and depth < MAX_DEPTH:
            yield from self._below(os.open(name, _DIRECTORY, dir_fd=directory), shown, depth + 1)
        elif not stat.S_ISREG(status.st_mode) or not self._affordable(status.st_size, shown):
            self._leave_out(shown)
        else:
            fd = os.open(name, _FILE, dir_fd=directory)
            try:
                self._files -= 1
                self._bytes -= status.st_size
                self._seen.add(shown)
                yield shown, status.st_size, _chunks(fd, status.st_size)
            finally:
                os.close(fd)

    def _affordable(self, size: int, shown: str) -> bool:
        # Different names may be equal once they are made printable.
        return size <= self._bytes and self._files > 0 and shown not in self._seen

    def _leave_out(self, name: str) -> None:
        if len(self.left_out) < MAX_LEFT_OUT:
            self.left_out.append(name)
        elif not self._full:
            self._stop()

    def _stop(self) -> None:
        self.left_out.append("(and more)")
        self._full = True


def holds_file_of(places: Iterable[str], size: int) -> bool:
    """True when a regular file of exactly `size` bytes is found within a bounded search."""
    sizes = (found for place in places for found in _sizes(os.open(place, _DIRECTORY), 0))
    return size in itertools.islice(sizes, MAX_LOOKED_AT)


def _sizes(directory: int, depth: int) -> Iterator[int]:
    """Yield the size of each file, and -1 for any other entry, so that all can be counted."""
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    yield entry.stat(follow_symlinks=False).st_size
                    continue
                yield -1
                if entry.is_dir(follow_symlinks=False) and depth < MAX_DEPTH:
                    inner = os.open(entry.name, _DIRECTORY, dir_fd=directory)
                    yield from _sizes(inner, depth + 1)
    finally:
        os.close(directory)


def _descend(tree: str, path: str) -> int:
    """Open a directory below a tree's root without following a link on the way."""
    fd = os.open(tree, _DIRECTORY)
    for part in _parts(path):
        try:
            inner = os.open(part, _DIRECTORY, dir_fd=fd)
        finally:
            os.close(fd)
        fd = inner
    return fd


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _chunks(fd: int, size: int) -> Iterator[bytes]:
    left = size
    while left > 0:
        data = os.read(fd, min(left, CHUNK_BYTES))
        if not data:
            # Shorter than announced: padded, because the reader expects the announced size.
            data = bytes(min(left, CHUNK_BYTES))
        left -= len(data)
        yield data


def _text(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "replace")
