"""The entry point for untrusted archives: detects the format by content, and unpacks it."""

from __future__ import annotations

import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final, cast

import zstandard

from job_engine.errors import ArchiveError
from job_engine.grading.archive.collect import Collector, Unpacked
from job_engine.grading.archive.limits import ArchiveLimits
from job_engine.grading.archive.streams import MAX_MEMORY_BYTES, Metered, XzReader
from job_engine.grading.archive.tar import BLOCK, collect_tar
from job_engine.grading.archive.zip import collect_zip

_ACCEPTED: Final = "Upload a zip, tar, tar.gz, tar.xz or tar.zst archive."

_NOT_TAKEN: Final = (
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"BZh", "compressed by bzip2"),
    (b"\x1f\x9d", "compressed by compress"),
    (b"%PDF", "a PDF document"),
    (b"\x7fELF", "a program"),
)

_DAMAGED: Final = (zlib.error, EOFError, OSError, lzma.LZMAError, zstandard.ZstdError)


def unpack(
    source: IO[bytes],
    *,
    limits: ArchiveLimits | None = None,
    strip: bool = False,
    spool_dir: Path | None = None,
) -> Unpacked:
    """Turn an untrusted archive into a clean tar stream.

    `source` is seekable; its format is detected by its content. `strip` drops a single
    top-level directory. Spools of more than a few MiB go to unlinked files in
    `spool_dir`. Raises `ArchiveError` with a message for the person who packed it.
    """
    limits = limits or ArchiveLimits()
    size = source.seek(0, io.SEEK_END)
    source.seek(0)
    head = source.read(BLOCK)
    source.seek(0)
    collector = Collector(limits, limits.budget_bytes(size), spool_dir)
    try:
        if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            collect_zip(source, collector, limits)
        else:
            stream = Metered(_opened(source, head), limits.stream_bytes(size))
            collect_tar(stream, collector, limits)
        return collector.finish(strip=strip)
    except _DAMAGED as error:
        raise ArchiveError(f"The archive is damaged ({error}). Upload it again.") from error
    finally:
        collector.close()


def is_plain(file: Path) -> bool:
    """Return whether a file is neither an archive nor in a format that is refused."""
    with file.open("rb") as opened:
        head = opened.read(BLOCK)
    starts = (b"PK\x03\x04", b"PK\x05\x06", *(magic for magic, _ in (*_OPENERS, *_NOT_TAKEN)))
    return not (
        head.startswith(starts)
        or (len(head) == BLOCK and (head[257:262] == b"ustar" or _old_tar(head)))
    )


def _opened(source: IO[bytes], head: bytes) -> IO[bytes]:
    """Return the tar stream inside. Raises `ArchiveError` if there is none."""
    for magic, opener in _OPENERS:
        if head.startswith(magic):
            return opener(source)
    if len(head) == BLOCK and head[257:262] == b"ustar":
        return source
    for magic, what in _NOT_TAKEN:
        if head.startswith(magic):
            raise ArchiveError(f"The file is {what}. {_ACCEPTED}")
    if len(head) == BLOCK and _old_tar(head):
        return source
    raise ArchiveError(f"The file is no archive that can be read. {_ACCEPTED}")


def _old_tar(head: bytes) -> bool:
    """Return whether this is the header of a tar older than ustar (V7), by its checksum."""
    stored = head[148:156].strip(b"\0 ")
    total = sum(head[:148]) + 8 * 32 + sum(head[156:])
    try:
        return head[0] != 0 and int(stored, 8) == total
    except ValueError:
        return False


def _gzip(source: IO[bytes]) -> IO[bytes]:
    return cast("IO[bytes]", gzip.GzipFile(fileobj=source))


def _xz(source: IO[bytes]) -> IO[bytes]:
    return cast("IO[bytes]", io.BufferedReader(XzReader(source)))


def _zstd(source: IO[bytes]) -> IO[bytes]:
    # A frame can ask for a window of gigabytes; the real ones stay under 128 MiB.
    reader = zstandard.ZstdDecompressor(max_window_size=MAX_MEMORY_BYTES).stream_reader(
        source, read_across_frames=True, closefd=False
    )
    return cast("IO[bytes]", io.BufferedReader(cast("io.RawIOBase", reader)))


_OPENERS: Final[tuple[tuple[bytes, Callable[[IO[bytes]], IO[bytes]]], ...]] = (
    (b"\x1f\x8b", _gzip),
    (b"\xfd7zXZ\x00", _xz),
    (b"\x28\xb5\x2f\xfd", _zstd),
)
