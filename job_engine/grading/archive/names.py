"""Names of archive members: which are accepted, and which collide."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from job_engine.errors import ArchiveError

MAX_NAME_BYTES: Final = 1024
MAX_PART_BYTES: Final = 255
"""Longest component of a path in Linux file systems, in bytes (NAME_MAX)."""
MAX_DEPTH: Final = 32

_DRIVE: Final = re.compile(r"[A-Za-z]:")
# Bidirectional overrides show `c.exe` as `exe.c` on a grader's screen.
_BIDI: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")


def clean_name(raw: str) -> tuple[str, ...]:
    """Return the components of a member's name; empty for the root itself (`./`).

    Raises `ArchiveError`, saying what to rename, for a name that is absolute, climbs,
    uses backslashes or drives, or holds characters that no file name should.
    """
    shown = show(raw)
    if raw.startswith("/"):
        raise ArchiveError(
            f"The archive names the absolute path {shown}. "
            "Pack it again from inside the directory, with relative names."
        )
    if "\\" in raw or _DRIVE.match(raw):
        raise ArchiveError(
            f"The archive names {shown}, with a backslash or a drive letter. "
            "Rename the file, or pack with a tool that separates directories by '/'."
        )
    if any(unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} or c in _BIDI for c in raw):
        raise ArchiveError(f"The name {shown} holds control characters. Rename the file.")
    parts = tuple(part for part in raw.split("/") if part not in {"", "."})
    if ".." in parts:
        raise ArchiveError(
            f"The archive names {shown}, which climbs out of its directory. "
            "Pack it again without '..' in names."
        )
    too_long = len(raw.encode()) > MAX_NAME_BYTES
    if too_long or any(len(part.encode()) > MAX_PART_BYTES for part in parts):
        raise ArchiveError(
            f"The name {shown} is too long: at most {MAX_PART_BYTES} bytes a component and "
            f"{MAX_NAME_BYTES} in all. Rename the file."
        )
    if len(parts) > MAX_DEPTH:
        raise ArchiveError(
            f"The name {shown} lies more than {MAX_DEPTH} directories deep. Flatten the tree."
        )
    return parts


def collision_key(parts: tuple[str, ...]) -> tuple[str, ...]:
    """Return a key that is equal for names which some file system does not distinguish."""
    return tuple(
        unicodedata.normalize("NFC", unicodedata.normalize("NFC", part).casefold())
        for part in parts
    )


def show(raw: str) -> str:
    """Quote a hostile name for a message: escaped, and cut."""
    text = ascii(raw) if not raw.isprintable() else repr(raw)
    return text if len(text) <= 120 else f"{text[:100]}…"
