"""The holder of a slot: keeps its trees mounted, fills them, and reads them back."""

from __future__ import annotations

import posixpath
import re
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import IO, Final

from job_engine.errors import SandboxError
from job_engine.sandbox.base import Handover
from job_engine.sandbox.docker.attach import STDOUT, AttachedStream

SCRIPT: Final = files(__package__).joinpath("holder.sh").read_text()

_FACT: Final = re.compile(rb"([0-9a-f]+) ([0-9]+) ")
_BLOCK_BYTES: Final = 64 * 2**10
_FRAME_BLOCKS: Final = 16
NAMES_BYTES: Final = 4 * 2**20
"""Size of the holder's /tmp, which bounds the list of names of a hand-over."""
_MAX_NAME_BYTES: Final = 4096
_MAX_LEFT_OUT: Final = 1000
_OVERHEAD_BYTES: Final = 2**20


@dataclass(frozen=True)
class Space:
    """What a tree looks like after a phase."""

    full: bool
    """No byte or no inode is left."""
    file_at_limit: bool
    """A file has exactly the file-size limit."""


@dataclass(frozen=True)
class _Entry:
    name: bytes
    regular: bool
    size: int


class Holder:
    """Sends requests to the holder's program (`holder.sh`), one at a time; not thread-safe.

    Every method raises `SandboxError` when the holder is gone or does not answer in time.
    """

    def __init__(self, stream: AttachedStream, timeout_s: float) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self._stream.set_timeout(timeout_s)

    def fill(self, tree: str, archive: IO[bytes]) -> None:
        """Unpack a tar stream into a tree."""
        token = self._request("fill", tree)
        while data := _read_frame(archive):
            padded = data.ljust(-(-len(data) // _BLOCK_BYTES) * _BLOCK_BYTES, b"\0")
            self._send(b"%d\n" % (len(padded) // _BLOCK_BYTES))
            self._send(padded)
        self._send(b"0\n")
        status, _, errors = self._answer(token, _OVERHEAD_BYTES).partition(b"\n")
        if status != b"0":
            reason = errors.decode(errors="replace").strip() or f"tar ended with {status!r}"
            raise SandboxError(f"tree {tree} cannot be filled: {reason}")

    def space(self, tree: str, file_size_bytes: int) -> Space:
        """Return whether a tree is full, and whether a file was cut at the file-size limit."""
        token = self._request("space", tree, str(file_size_bytes))
        numbers, _, found = self._answer(token, _OVERHEAD_BYTES).partition(b"\n")
        try:
            _, free_blocks, _, free_inodes = map(int, numbers.split())
        except ValueError as error:
            raise SandboxError(f"tree {tree}: the holder tells no space: {numbers!r}") from error
        return Space(full=free_blocks == 0 or free_inodes == 0, file_at_limit=bool(found))

    def take(self, handover: Handover) -> tuple[dict[str, bytes], tuple[str, ...]]:
        """Return the regular files of a hand-over by name, and the names that were left out.

        In order of name, as many as the caps allow. No process of the slot may be running.
        """
        path = _tree_path(handover.path)
        entries, complete = self._list(handover.tree, path)
        taken, left_out = _choose(entries, handover)
        contents = self._read(handover.tree, path, taken)
        prefix = f"{handover.tree}{path}"
        files: dict[str, bytes] = {}
        for entry, data in contents.items():
            # Of names that are equal once decoded, the first one counts.
            files.setdefault(_name(prefix, entry), data)
        names = [_name(prefix, entry) for entry in left_out[:_MAX_LEFT_OUT]]
        if not complete or len(left_out) > _MAX_LEFT_OUT:
            names.append(f"{prefix}/…")
        return files, tuple(names)

    def silent(self) -> bool:
        """Return whether it has sent nothing unasked, which would mean that it has ended."""
        return self._stream.silent()

    def close(self) -> None:
        """End the connection; the holder ends with it. Idempotent."""
        self._stream.close()

    def _list(self, tree: str, path: str) -> tuple[list[_Entry], bool]:
        token = self._request("list", tree)
        self._send(path.encode(errors="surrogateescape") + b"\n")
        listing = self._answer(token, NAMES_BYTES + _OVERHEAD_BYTES)
        facts = self._answer(token, NAMES_BYTES * 8)
        *names, last = listing.split(b"\0")
        # A truncated listing ends with a partial name.
        found, _, whole = last.rpartition(b" ")
        if found.endswith(b"other"):
            return [_Entry(b".", regular=False, size=0)], True
        return _entries(names, facts), whole == b"whole\n" and len(listing) < NAMES_BYTES

    def _read(self, tree: str, path: str, entries: list[_Entry]) -> Mapping[_Entry, bytes]:
        if not entries:
            return {}
        names = b"".join(entry.name + b"\0" for entry in entries)
        token = self._request("read", tree, str(len(names)))
        self._send(path.encode(errors="surrogateescape") + b"\n" + names)
        total = sum(entry.size for entry in entries)
        data = self._answer(token, total + _OVERHEAD_BYTES)
        if len(data) != total:
            raise SandboxError(f"tree {tree}: {len(data)} bytes handed over, {total} announced")
        contents, start = {}, 0
        for entry in entries:
            contents[entry] = data[start : start + entry.size]
            start += entry.size
        return contents

    def _request(self, kind: str, tree: str, argument: str = "") -> bytes:
        # Drawn after all writers of the tree have ended, so no file can contain it.
        token = secrets.token_hex(16)
        self._send(f"{kind} {token} {tree} {argument}\n".encode())
        return token.encode() + b"\n"

    def _send(self, data: bytes) -> None:
        try:
            self._stream.send(data)
        except OSError as error:
            raise SandboxError(f"the slot's holder takes no request: {error}") from error

    def _answer(self, token: bytes, limit_bytes: int) -> bytes:
        """Return what comes before the token; what comes after it waits for the next call."""
        searched = 0
        while (end := self._buffer.find(token, searched)) < 0:
            searched = max(0, len(self._buffer) - len(token))
            if len(self._buffer) > limit_bytes:
                raise SandboxError(f"the slot's holder answers more than {limit_bytes} bytes")
            self._buffer += self._receive()
        answer = bytes(self._buffer[:end])
        del self._buffer[: end + len(token)]
        return answer

    def _receive(self) -> bytes:
        try:
            parts = self._stream.receive()
        except OSError as error:
            raise SandboxError(f"the slot's holder does not answer: {error}") from error
        if parts is None:
            raise SandboxError("the slot's holder is gone")
        return b"".join(data for stream, data in parts if stream == STDOUT)


def _read_frame(archive: IO[bytes]) -> bytes:
    """Return a whole frame, or what is left: only the last one may be padded."""
    wanted = _FRAME_BLOCKS * _BLOCK_BYTES
    data = bytearray()
    while len(data) < wanted and (part := archive.read(wanted - len(data))):
        data += part
    return bytes(data)


def _tree_path(path: str) -> str:
    """Return the path below its tree's root: empty, or with a slash in front."""
    plain = posixpath.normpath("/" + path.lstrip("/"))
    return "" if plain == "/" else plain


def _choose(entries: list[_Entry], handover: Handover) -> tuple[list[_Entry], list[_Entry]]:
    taken: list[_Entry] = []
    left_out: list[_Entry] = []
    room = handover.max_bytes
    for entry in sorted(entries, key=lambda entry: entry.name):
        if entry.regular and entry.size <= room and len(taken) < handover.max_files:
            taken.append(entry)
            room -= entry.size
        else:
            left_out.append(entry)
    return taken, left_out


def _entries(names: list[bytes], facts: bytes) -> list[_Entry]:
    """Join names and their facts; names that are too long for a path have none.

    Since the names are known, a line break in a name cannot pass for the end of a line.
    """
    entries = []
    position = 0
    for name in names:
        found = _FACT.match(facts, position)
        if found and facts.startswith(name + b"\n", found.end()):
            position = found.end() + len(name) + 1
            regular = stat.S_ISREG(int(found[1], 16))
            entries.append(_Entry(name, regular, int(found[2])))
        else:
            entries.append(_Entry(name, regular=False, size=0))
    return entries


def _name(prefix: str, entry: _Entry) -> str:
    # find says "./name".
    name = entry.name[1:_MAX_NAME_BYTES].decode(errors="replace")
    return prefix + name
