"""Reading tar: ustar, GNU long names and pax, block by block.

`tarfile` reads the headers' fields; its own walk over an archive is not used, since
it takes a long name or a pax record of any declared size into memory.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import Final

from job_engine.errors import ArchiveError
from job_engine.grading.archive.collect import Collector, Readable, read_chunks
from job_engine.grading.archive.limits import ArchiveLimits
from job_engine.grading.archive.names import show

BLOCK: Final = 512
_MAX_EXTENSION_BYTES: Final = 64 * 1024
_EXTENSION_BYTES: Final = 1024
"""Most bytes of extended headers for each allowed entry, because they are slow to read."""
_MAX_LENGTH_DIGITS: Final = 6
_FILES: Final = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_EXTENSIONS: Final = (
    *(tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
_REFUSED: Final = {
    tarfile.LNKTYPE: "a hard link. Pack with `tar --hard-dereference`",
    tarfile.CHRTYPE: "a device. Leave it out",
    tarfile.BLKTYPE: "a device. Leave it out",
    tarfile.FIFOTYPE: "a named pipe. Leave it out",
    tarfile.GNUTYPE_SPARSE: "a sparse file. Pack without `--sparse`",
}


def collect_tar(stream: Readable, collector: Collector, limits: ArchiveLimits) -> None:
    """Collect the members of a tar stream. Raises `ArchiveError`."""
    extended: dict[str, str] = {}
    headers = extensions = 0
    while (info := _next_header(stream)) is not None:
        headers += 1
        if headers > 3 * limits.max_entries:
            raise ArchiveError("The archive holds too many entries. Leave out build products.")
        if info.type in _EXTENSIONS:
            extensions += info.size
            if extensions > _EXTENSION_BYTES * limits.max_entries:
                raise ArchiveError("The archive holds too much of extended headers.")
        if info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
            extended |= _pax(_extension(stream, info))
        elif info.type == tarfile.XGLTYPE:
            _refuse_global_names(_pax(_extension(stream, info)))
        elif info.type == tarfile.GNUTYPE_LONGNAME:
            extended["path"] = _text(_extension(stream, info).split(b"\0")[0])
        elif info.type == tarfile.GNUTYPE_LONGLINK:
            extended["linkpath"] = _text(_extension(stream, info).split(b"\0")[0])
        else:
            _member(stream, info, extended, collector)
            extended = {}


def _member(
    stream: Readable, info: tarfile.TarInfo, extended: dict[str, str], collector: Collector
) -> None:
    name = extended.get("path", info.name)
    size = _size(extended.get("size"), info.size)
    if any(key.startswith("GNU.sparse") for key in extended):
        raise ArchiveError(f"{show(name)} is {_REFUSED[tarfile.GNUTYPE_SPARSE]}.")
    if info.type in _FILES:
        executable = bool(info.mode & 0o100)
        collector.file(name, executable=executable, chunks=_content(stream, size))
        return
    if info.type == tarfile.DIRTYPE:
        collector.directory(name)
    elif info.type == tarfile.SYMTYPE:
        collector.link(name, extended.get("linkpath", info.linkname))
    else:
        what = _REFUSED.get(info.type, "of a kind that is not taken. Leave it out")
        raise ArchiveError(f"{show(name)} is {what}.")
    # Only files have content; a size on anything else would hide what follows.
    if size:
        raise ArchiveError(f"{show(name)} is no file, but has content. Pack the archive again.")


def _next_header(stream: Readable) -> tarfile.TarInfo | None:
    block = stream.read(BLOCK)
    if not block or block == bytes(BLOCK):
        # One empty block ends the archive; trailing data is ignored.
        return None
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except UnicodeDecodeError:
        raise ArchiveError(
            "The archive holds a name that is not UTF-8. Rename the file, or pack as zip."
        ) from None
    except (tarfile.HeaderError, ValueError, OverflowError) as error:
        raise ArchiveError(f"The archive is damaged ({error}). Upload it again.") from None
    if info.size < 0:
        raise ArchiveError("The archive is damaged (a negative size). Upload it again.")
    return info


def _content(stream: Readable, size: int) -> Iterator[bytes]:
    """Yield the content of a member, and skip its padding."""
    yield from read_chunks(stream, size)
    stream.read(-size % BLOCK)


def _extension(stream: Readable, info: tarfile.TarInfo) -> bytes:
    if info.size > _MAX_EXTENSION_BYTES:
        raise ArchiveError("The archive holds an extended header that is too large.")
    return b"".join(_content(stream, info.size))


def _pax(data: bytes) -> dict[str, str]:
    """Read `<length> <key>=<value>\\n` records (POSIX pax, extended header)."""
    records: dict[str, str] = {}
    start, end = 0, len(data.rstrip(b"\0"))
    while start < end:
        # No further than the longest length goes: there may be very many records.
        length_text, space, _ = data[start : start + _MAX_LENGTH_DIGITS + 1].partition(b" ")
        if not space or not length_text.isdigit():
            raise ArchiveError("The archive is damaged (a pax header). Upload it again.")
        length = int(length_text)
        record = data[start + len(length_text) + 1 : start + length]
        key, equals, value = record.partition(b"=")
        if length <= len(length_text) + 1 or not equals or not value.endswith(b"\n"):
            raise ArchiveError("The archive is damaged (a pax header). Upload it again.")
        if key in (b"path", b"linkpath", b"size") or key.startswith(b"GNU.sparse"):
            records[_text(key)] = _text(value[:-1])
        start += length
    return records


def _refuse_global_names(records: dict[str, str]) -> None:
    # Git writes a global header with a comment; one that names or sizes every
    # following member is no tool's.
    if records:
        raise ArchiveError("The archive holds a global header for names. Pack it again.")


def _size(extended: str | None, plain: int) -> int:
    if extended is None:
        return plain
    if not extended.isascii() or not extended.isdigit() or len(extended) > 18:
        raise ArchiveError("The archive is damaged (a pax size). Upload it again.")
    return int(extended)


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8", "strict")
    except UnicodeDecodeError:
        raise ArchiveError(
            f"The name {show(raw.decode('utf-8', 'backslashreplace'))} is not UTF-8. "
            "Rename the file, or pack as zip."
        ) from None
