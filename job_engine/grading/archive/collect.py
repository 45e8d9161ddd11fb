"""Collecting and checking the members of an archive, and writing them as a clean tar."""

from __future__ import annotations

import hashlib
import posixpath
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Protocol, Self, cast

from job_engine.errors import ArchiveError
from job_engine.grading.archive.limits import ArchiveLimits
from job_engine.grading.archive.names import clean_name, collision_key, show

_SPOOL_BYTES: Final = 8 * 2**20
"""Bytes kept in memory; larger trees go to an unlinked temporary file."""
_CHUNK: Final = 256 * 1024

_Parts = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Unpacked:
    """A clean tree; `stream` is positioned at its start. Close it when done."""

    stream: IO[bytes]
    """Uncompressed tar: sorted, owners and times zeroed, links last."""
    files: tuple[str, ...]
    """Names of the regular files, sorted."""
    size_bytes: int
    """Content of all files together."""
    links: int
    """Symbolic links in it."""
    directories: int
    """Directories in it, implied ones too."""
    digest: str
    """`sha256:<hex>` of the stream: the same for the same tree, however it was packed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stream.close()


@dataclass(frozen=True)
class _File:
    offset: int
    size: int
    executable: bool


class Collector:
    """Collects the members of one archive, and refuses invalid ones at once."""

    def __init__(
        self, limits: ArchiveLimits, budget_bytes: int, spool_dir: Path | None = None
    ) -> None:
        self._limits = limits
        self._budget = budget_bytes
        self._spool_dir = spool_dir
        self._data = self._spool()
        self._size = 0
        self._entries = 0
        self._files: dict[_Parts, _File] = {}
        self._links: dict[_Parts, str] = {}
        self._directories: set[_Parts] = set()
        self._keys: dict[_Parts, _Parts] = {}

    def close(self) -> None:
        """Discard the collected members."""
        self._data.close()

    def directory(self, raw: str) -> None:
        """Add a directory; the same one may come again."""
        parts = self._name(raw)
        self._add_directories(parts)

    def file(self, raw: str, *, executable: bool, chunks: Iterable[bytes]) -> None:
        """Add a regular file with the content that `chunks` yields, up to the limits."""
        parts = self._name(raw)
        self._claim(parts, raw)
        offset, size = self._size, 0
        for chunk in chunks:
            size += len(chunk)
            if size > self._limits.max_file_bytes:
                raise ArchiveError(
                    f"{show(raw)} is larger than {self._limits.max_file_bytes:,} bytes. "
                    "Leave it out of the archive."
                )
            if self._size + len(chunk) > self._budget:
                raise ArchiveError(self._too_much())
            self._data.write(chunk)
            self._size += len(chunk)
        self._files[parts] = _File(offset, size, executable)

    def link(self, raw: str, target: str) -> None:
        """Add a symbolic link; `finish` checks its target, when all names are known."""
        parts = self._name(raw)
        self._claim(parts, raw)
        self._links[parts] = target

    def copy(self, tar: tarfile.TarFile, info: tarfile.TarInfo, raw: str) -> None:
        """Add a member of a clean tar under the name `raw`."""
        if info.isdir():
            self.directory(raw)
        elif info.issym():
            self.link(raw, info.linkname)
        elif (file := tar.extractfile(info)) is not None:
            chunks = read_chunks(file, info.size)
            self.file(raw, executable=bool(info.mode & 0o100), chunks=chunks)

    def finish(self, *, strip: bool = False) -> Unpacked:
        """Check the links and write the tree; `strip` drops a single top-level directory."""
        if not self._files and not self._links:
            raise ArchiveError("The archive holds no files. Pack the files of the submission.")
        top = self._single_top() if strip else ()
        for parts, target in self._links.items():
            self._check_link(parts, target, top)
        stream, digest = self._write(len(top))
        return Unpacked(
            stream=stream,
            files=tuple(sorted("/".join(parts[len(top) :]) for parts in self._files)),
            size_bytes=self._size,
            links=len(self._links),
            directories=sum(len(parts) > len(top) for parts in self._directories),
            digest=digest,
        )

    # --- names ------------------------------------------------------------------

    def _name(self, raw: str) -> _Parts:
        self._entries += 1
        if self._entries > self._limits.max_entries:
            raise ArchiveError(
                f"The archive holds more than {self._limits.max_entries:,} entries. "
                "Leave out build products and dependencies (node_modules, .git, target)."
            )
        return clean_name(raw)

    def _claim(self, parts: _Parts, raw: str) -> None:
        if not parts:
            raise ArchiveError(f"The archive holds a member with the empty name {show(raw)}.")
        self._add_directories(parts[:-1])
        self._reserve(parts)

    def _add_directories(self, parts: _Parts) -> None:
        for depth in range(1, len(parts) + 1):
            above = parts[:depth]
            if above not in self._directories:
                self._reserve(above)
                self._directories.add(above)
                # Implied directories take inodes, too.
                if len(self._directories) > self._limits.max_entries:
                    raise ArchiveError("The archive holds too many directories. Flatten the tree.")

    def _reserve(self, parts: _Parts) -> None:
        key = collision_key(parts)
        other = self._keys.get(key)
        if other is not None:
            one, two = show("/".join(other)), show("/".join(parts))
            raise ArchiveError(
                f"The archive holds {one} twice. Pack it again with each file once."
                if other == parts
                else f"The names {one} and {two} are the same on some systems. Rename one of them."
            )
        self._keys[key] = parts

    def _single_top(self) -> _Parts:
        members = [*self._files, *self._links, *self._directories]
        tops = {parts[0] for parts in members}
        flat = any(len(parts) == 1 for parts in [*self._files, *self._links])
        return (tops.pop(),) if len(tops) == 1 and not flat else ()

    def _check_link(self, parts: _Parts, target: str, top: _Parts) -> None:
        refusal = ArchiveError(
            f"The link {show('/'.join(parts))} points to {show(target)}, outside of the archive "
            "or through another link. Replace it by the file itself."
        )
        if not target or target.startswith("/") or "\\" in target or not target.isprintable():
            raise refusal
        place = list(parts[:-1])
        steps = [step for step in target.split("/") if step not in {"", "."}]
        for index, step in enumerate(steps):
            if step == "..":
                if len(place) <= len(top):
                    raise refusal
                place.pop()
            else:
                place.append(step)
            # Only the last step may be a link: otherwise the `..` after it would not lead
            # where the text says (a -> b/../.. with b -> c/d/e).
            if index < len(steps) - 1 and tuple(place) in self._links:
                raise refusal
        if len(target.encode()) > 1024 or tuple(place[: len(top)]) != top:
            raise refusal

    # --- writing ----------------------------------------------------------------

    def _too_much(self) -> str:
        if self._budget >= self._limits.max_bytes:
            return (
                f"The archive unpacks to more than {self._limits.max_bytes:,} bytes. "
                "Leave out what does not belong to it."
            )
        return (
            f"The archive unpacks to more than {self._limits.max_ratio} times its size, "
            "as a decompression bomb does. Leave out large files of repeated content."
        )

    def _spool(self) -> IO[bytes]:
        where = str(self._spool_dir) if self._spool_dir else None
        spool = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES, dir=where)  # noqa: SIM115
        return cast("IO[bytes]", spool)

    def _write(self, drop: int) -> tuple[IO[bytes], str]:
        out = self._spool()
        try:
            hashing = _Hashing(out)
            with tarfile.open(
                fileobj=cast("IO[bytes]", hashing), mode="w|", format=tarfile.PAX_FORMAT
            ) as tar:
                for info, content in self._members(drop):
                    tar.addfile(info, content)
            out.seek(0)
        except BaseException:
            out.close()
            raise
        return out, f"sha256:{hashing.sha.hexdigest()}"

    def _members(self, drop: int) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
        for parts in sorted(self._directories):
            if len(parts) > drop:
                yield _info(parts[drop:], tarfile.DIRTYPE, 0o755), None
        for parts, file in sorted(self._files.items()):
            info = _info(parts[drop:], tarfile.REGTYPE, 0o755 if file.executable else 0o644)
            info.size = file.size
            self._data.seek(file.offset)
            yield info, self._data
        # Links come last, so that nothing is ever written through one.
        for parts, target in sorted(self._links.items()):
            info = _info(parts[drop:], tarfile.SYMTYPE, 0o777)
            info.linkname = posixpath.normpath(target)
            yield info, None


class _Hashing:
    """A writer that also hashes the written bytes."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self.sha = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha.update(data)
        return self._out.write(data)


def _info(parts: _Parts, kind: bytes, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo("/".join(parts))
    info.type = kind
    info.mode = mode
    return info


class Readable(Protocol):
    """A stream that returns fewer bytes than asked for only at its end."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes."""


def read_chunks(source: Readable, size: int) -> Iterator[bytes]:
    """Yield exactly `size` bytes of `source`; raises `ArchiveError` when there are fewer."""
    while size:
        chunk = source.read(min(size, _CHUNK))
        if not chunk:
            raise ArchiveError("The archive is damaged: it ends in the middle. Upload it again.")
        size -= len(chunk)
        yield chunk
