"""Decompressing readers whose memory and output are bounded."""

from __future__ import annotations

import io
import lzma
from typing import IO, Final

from job_engine.errors import ArchiveError

MAX_MEMORY_BYTES: Final = 128 * 2**20
"""Most memory for a decompressor's dictionary or window, in bytes."""
_CHUNK: Final = 64 * 1024


class XzReader(io.RawIOBase):
    """Reads .xz with a memory limit, which `lzma.LZMAFile` has no argument for."""

    def __init__(self, source: IO[bytes]) -> None:
        super().__init__()
        self._source = source
        self._decoder = self._new()

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read decompressed bytes into `buffer`; return their number, 0 at the end."""
        while True:
            if self._decoder.eof:
                rest = self._decoder.unused_data or self._source.read(_CHUNK)
                if not rest.strip(b"\0"):  # stream padding, or the end
                    return 0
                self._decoder = self._new()
            else:
                rest = self._source.read(_CHUNK) if self._decoder.needs_input else b""
                if not rest and self._decoder.needs_input:
                    raise EOFError("it ends in the middle")
            data = self._decoder.decompress(rest, len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)

    @staticmethod
    def _new() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=MAX_MEMORY_BYTES)


class Metered:
    """Reads at most `limit` bytes of another stream."""

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self._stream = stream
        self._left = limit

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer at the end; raises `ArchiveError` past the limit."""
        parts: list[bytes] = []
        while size:
            data = self._stream.read(min(size, _CHUNK))
            if not data:
                break
            self._left -= len(data)
            if self._left < 0:
                raise ArchiveError(
                    "The archive decompresses to far more than its size allows, as a "
                    "decompression bomb does. Leave out large files of repeated content."
                )
            parts.append(data)
            size -= len(data)
        return b"".join(parts)
