"""Reading zip: the central directory by `zipfile`, every member by our own inflating.

`zipfile` cuts a member off at its declared size and reads members that overlap (the
bomb of 42 kB that holds petabytes, D. Fifield 2019); here sizes, checksums and extents
must all agree, and nothing is inflated beyond what was declared.
"""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Final

from job_engine.errors import ArchiveError
from job_engine.grading.archive.collect import Collector, read_chunks
from job_engine.grading.archive.limits import ArchiveLimits
from job_engine.grading.archive.names import show

_END: Final = b"PK\x05\x06"
_END64_LOCATOR: Final = b"PK\x06\x07"
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_LOCAL_SIGNATURE: Final = b"PK\x03\x04"
_ENCRYPTED: Final = 0x1 | 0x40 | 0x2000
_ENTRY_BYTES: Final = 1024
"""Generous for one record of the central directory: 46 bytes, name, extra, comment."""
_LINK_BYTES: Final = 1024
_CHUNK: Final = 64 * 1024
_DAMAGED: Final = "The archive is damaged ({}). Upload it again."
# Finder and Explorer add these; they are no part of a submission.
_NOISE: Final = ("__MACOSX/",)
_NOISE_NAMES: Final = (".DS_Store", "Thumbs.db")


def collect_zip(source: IO[bytes], collector: Collector, limits: ArchiveLimits) -> None:
    """Collect the members of a zip file. Raises `ArchiveError`."""
    _check_directory_size(source, limits)
    try:
        archive = zipfile.ZipFile(source)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        raise ArchiveError(_DAMAGED.format(error)) from None
    with archive:
        infos = archive.infolist()
        if len(infos) > limits.max_entries:
            raise ArchiveError(
                f"The archive holds more than {limits.max_entries:,} entries. Leave out build "
                "products and dependencies (node_modules, .git, target)."
            )
        starts = _check_extents(source, infos, archive.start_dir)
        for info in infos:
            _member(source, info, starts[id(info)], collector)


def _check_directory_size(source: IO[bytes], limits: ArchiveLimits) -> None:
    """Refuse a central directory that `zipfile` would turn into gigabytes of objects."""
    size = source.seek(0, io.SEEK_END)
    tail_start = max(0, size - 22 - 65_535 - 20)
    source.seek(tail_start)
    tail = source.read()
    end = tail.rfind(_END)
    if end < 0 or end + 22 > len(tail):
        raise ArchiveError(_DAMAGED.format("no central directory; the upload may be cut off"))
    listed = struct.unpack_from("<L", tail, end + 12)[0]
    if listed == 0xFFFFFFFF or tail[max(0, end - 20) : end].startswith(_END64_LOCATOR):
        # Zip64: everything before the end record could be directory.
        listed = tail_start + end
    if listed > limits.max_entries * _ENTRY_BYTES:
        raise ArchiveError(
            "The archive's list of files is too large or damaged. Leave out build products, "
            "or upload a tar.gz."
        )


def _check_extents(
    source: IO[bytes], infos: list[zipfile.ZipInfo], directory_start: int
) -> dict[int, int]:
    """Return where each member's data starts; no two members may share a byte."""
    starts: dict[int, int] = {}
    free_from = 0
    for info in sorted(infos, key=lambda i: i.header_offset):
        if info.header_offset < free_from:
            raise ArchiveError(
                f"{show(info.orig_filename)} overlaps another file of the archive, as in a "
                "decompression bomb. Pack it again with an ordinary tool."
            )
        # Zip64 may name places that not even a seek takes.
        if info.header_offset >= directory_start:
            raise ArchiveError(_DAMAGED.format("a member lies beyond its content"))
        source.seek(info.header_offset)
        header = source.read(_LOCAL.size)
        if len(header) < _LOCAL.size or not header.startswith(_LOCAL_SIGNATURE):
            raise ArchiveError(_DAMAGED.format("a member's header is missing"))
        *_, name_bytes, extra_bytes = _LOCAL.unpack(header)
        _check_local_name(info, source.read(name_bytes))
        starts[id(info)] = info.header_offset + _LOCAL.size + name_bytes + extra_bytes
        free_from = starts[id(info)] + info.compress_size
        if free_from > directory_start:
            raise ArchiveError(
                f"{show(info.orig_filename)} reaches beyond the archive's content. Pack it again."
            )
    return starts


def _check_local_name(info: zipfile.ZipInfo, raw: bytes) -> None:
    """Refuse a member with two names, which different readers could choose differently."""
    encoding = "utf-8" if info.flag_bits & 0x800 else "cp437"
    if raw.decode(encoding, "backslashreplace") != info.orig_filename:
        raise ArchiveError(
            f"{show(info.orig_filename)} has two different names in the archive. Pack it again."
        )


def _member(source: IO[bytes], info: zipfile.ZipInfo, start: int, collector: Collector) -> None:
    name = info.orig_filename
    if name.startswith(_NOISE) or name.rpartition("/")[2] in _NOISE_NAMES:
        return
    if info.flag_bits & _ENCRYPTED:
        raise ArchiveError(f"{show(name)} is encrypted. Pack the archive without a password.")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ArchiveError(
            f"{show(name)} is compressed by method {info.compress_type}. "
            "Pack the archive with ordinary (deflate) compression."
        )
    mode = info.external_attr >> 16
    kind = stat.S_IFMT(mode)
    if name.endswith("/") or kind == stat.S_IFDIR:
        if info.file_size:
            raise ArchiveError(f"The directory {show(name)} has content. Pack the archive again.")
        collector.directory(name)
    elif kind == stat.S_IFLNK:
        collector.link(name, _link_target(source, info, start))
    elif kind in (stat.S_IFREG, 0):
        collector.file(name, executable=bool(mode & 0o100), chunks=_content(source, info, start))
    else:
        raise ArchiveError(f"{show(name)} is a device, a pipe or a socket. Leave it out.")


def _link_target(source: IO[bytes], info: zipfile.ZipInfo, start: int) -> str:
    if info.file_size > _LINK_BYTES:
        raise ArchiveError(f"The link {show(info.orig_filename)} is too long.")
    try:
        return b"".join(_content(source, info, start)).decode("utf-8")
    except UnicodeDecodeError:
        raise ArchiveError(f"The link {show(info.orig_filename)} is not UTF-8.") from None


def _content(source: IO[bytes], info: zipfile.ZipInfo, start: int) -> Iterator[bytes]:
    """Yield the member's content; its size and checksum must be the declared ones."""
    source.seek(start)
    packed = read_chunks(source, info.compress_size)
    chunks = packed if info.compress_type == zipfile.ZIP_STORED else _inflate(packed)
    size, crc = 0, 0
    for chunk in chunks:
        size += len(chunk)
        if size > info.file_size:
            break
        crc = zlib.crc32(chunk, crc)
        yield chunk
    if size != info.file_size or crc != info.CRC:
        raise ArchiveError(
            f"{show(info.orig_filename)} is not what the archive declares: its size or checksum "
            "differs. Pack the archive again."
        )


def _inflate(packed: Iterator[bytes]) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    for chunk in packed:
        data = chunk
        while data and not inflater.eof:
            out = inflater.decompress(data, _CHUNK)
            data = inflater.unconsumed_tail
            if out:
                yield out
        if inflater.eof and inflater.unused_data:
            raise ArchiveError(_DAMAGED.format("content after the end of a file"))
    while not inflater.eof:
        out = inflater.decompress(b"", _CHUNK)
        if not out:
            raise ArchiveError(_DAMAGED.format("a file ends in the middle"))
        yield out
