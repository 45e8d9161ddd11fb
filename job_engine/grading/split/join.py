"""The tree that joins the two sandboxes, as it is when they start."""

from __future__ import annotations

import io
import tarfile
from importlib.resources import files
from typing import IO, Final

from job_engine.sandbox.base import Tree

JOIN: Final = "join"
TREE: Final = Tree(name=JOIN, size_bytes=16 * 2**20, inodes=16_384)
_SCRIPTS: Final = ("run", "serve")
_FIFOS: Final = ("life", "requests")
_RUNS: Final = "runs"


def serve_command(target: str, command: tuple[str, ...]) -> tuple[str, ...]:
    """Return what runs in the program's sandbox, to start `command` for each request.

    `target` is where the tree is mounted, on both sides; the harness runs `<target>/run`.
    """
    return ("sh", f"{target}/serve", *command)


def join_tree() -> IO[bytes]:
    """Return the tree's tar stream, at its start."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in _SCRIPTS:
            script = files(__package__).joinpath(f"{name}.sh").read_bytes()
            entry = _entry(name, 0o755)
            entry.size = len(script)
            archive.addfile(entry, io.BytesIO(script))
        for name in _FIFOS:
            fifo = _entry(name, 0o666)
            fifo.type = tarfile.FIFOTYPE
            archive.addfile(fifo)
        runs = _entry(_RUNS, 0o755)
        runs.type = tarfile.DIRTYPE
        archive.addfile(runs)
    stream.seek(0)
    return stream


def _entry(name: str, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode = mode
    return entry
