"""Limits for archives."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ArchiveLimits:
    """Limits for the real content of an archive, whatever its headers declare."""

    max_entries: int = 10_000
    """Files, directories and links."""
    max_bytes: int = 256 * 2**20
    """Content of all files together."""
    max_file_bytes: int = 64 * 2**20
    max_ratio: int = 200
    """Most bytes that may come out for each byte of the archive…"""
    ratio_free_bytes: int = 16 * 2**20
    """…beyond this many, which even the smallest archive may hold."""

    def budget_bytes(self, archive_bytes: int) -> int:
        """Return how many bytes may come out of an archive of this size."""
        return min(self.max_bytes, self.ratio_free_bytes + self.max_ratio * archive_bytes)

    def stream_bytes(self, archive_bytes: int) -> int:
        """Return how much tar, headers and padding included, may come out of a compressor."""
        return self.budget_bytes(archive_bytes) + 4096 * self.max_entries
