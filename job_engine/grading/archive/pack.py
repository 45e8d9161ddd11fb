"""Packing directories into archives that are identical on every machine."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

import zstandard

from job_engine.errors import ArchiveError
from job_engine.grading.archive.collect import Collector, Unpacked
from job_engine.grading.archive.limits import ArchiveLimits
from job_engine.grading.archive.names import show

SKIPPED: Final = frozenset(
    {".git", ".hg", ".svn", "__pycache__", ".DS_Store", ".pytest_cache", ".venv", "node_modules"}
)
"""Left out of every pack: caches and metadata, which differ from machine to machine."""

_CHUNK: Final = 256 * 1024
_ZSTD_LEVEL: Final = 10


def pack_directory(directory: Path, limits: ArchiveLimits | None = None) -> Unpacked:
    """Return the clean tar of a directory: same content and x bits, same bytes.

    Names are sorted, and times and owners are zero. It is not compressed, because releases of a
    compressor differ. Assignments are uploaded in this form, and identified by its digest on all
    machines. Raises `ArchiveError` for content that `unpack` would refuse, before an upload.
    """
    limits = limits or ArchiveLimits()
    if not directory.is_dir():
        raise ArchiveError(f"{directory} is no directory.")
    collector = Collector(limits, limits.max_bytes)
    try:
        for path in _walk(directory):
            _add(path, path.relative_to(directory).as_posix(), collector)
        return collector.finish()
    finally:
        collector.close()


def pack_submission(directory: Path, target: IO[bytes], limits: ArchiveLimits | None = None) -> str:
    """Write a directory as tar.zst to `target`, for upload; return the digest of the tar inside."""
    with pack_directory(directory, limits) as packed:
        compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True)
        compressor.copy_stream(packed.stream, target)
        return packed.digest


def _walk(directory: Path) -> Iterator[Path]:
    for root, directories, files in os.walk(directory):
        here = Path(root)
        linked = [name for name in directories if (here / name).is_symlink()]
        directories[:] = sorted(set(directories) - SKIPPED - set(linked))
        for name in sorted([*directories, *files, *linked]):
            if name not in SKIPPED:
                yield here / name


def _add(path: Path, name: str, collector: Collector) -> None:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        collector.link(name, os.readlink(path))
    elif stat.S_ISDIR(status.st_mode):
        collector.directory(name)
    elif stat.S_ISREG(status.st_mode):
        collector.file(name, executable=bool(status.st_mode & 0o100), chunks=_read(path))
    else:
        raise ArchiveError(f"{show(name)} is a device, a pipe or a socket. Leave it out.")


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
