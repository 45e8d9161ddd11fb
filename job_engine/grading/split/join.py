"""The tree that joins the two sandboxes, and the harness's own tools, as they start."""

from __future__ import annotations

import io
import tarfile
from importlib.resources import files
from typing import IO, Final

from job_engine.sandbox.base import Tree

JOIN: Final = "join"
TOOLS: Final = "program-tools"

TREES: Final = (
    Tree(name=JOIN, size_bytes=16 * 2**20, inodes=16_384),
    Tree(name=TOOLS, size_bytes=2**20, inodes=16),
)
SERVE_WORDS: Final = 2
"""Words of `serve_command` that come before the program's own command."""
_FIFOS: Final = ("life", "requests")
_RUNS: Final = "runs"


def serve_command(target: str, command: tuple[str, ...]) -> tuple[str, ...]:
    """Return what runs in the program's sandbox, to start `command` for each request.

    `target` is where the harness has its tools, and runs `<target>/run`.
    """
    return ("sh", f"{join_target(target)}/serve", *command)


def join_target(target: str) -> str:
    """Return where both sides see the tree that joins them."""
    return f"{target}.join"


def contents() -> dict[str, IO[bytes]]:
    """Return the tar streams of both trees, at their starts."""
    return {JOIN: _join(), TOOLS: _tools()}


def _tools() -> IO[bytes]:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        _add_script(archive, "run")
    stream.seek(0)
    return stream


def _join() -> IO[bytes]:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        _add_script(archive, "serve")
        for name in _FIFOS:
            fifo = _entry(name, 0o666)
            fifo.type = tarfile.FIFOTYPE
            archive.addfile(fifo)
        runs = _entry(_RUNS, 0o755)
        runs.type = tarfile.DIRTYPE
        archive.addfile(runs)
    stream.seek(0)
    return stream


def _add_script(archive: tarfile.TarFile, name: str) -> None:
    script = files(__package__).joinpath(f"{name}.sh").read_bytes()
    entry = _entry(name, 0o755)
    entry.size = len(script)
    archive.addfile(entry, io.BytesIO(script))


def _entry(name: str, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode = mode
    return entry
