"""A zygote of bubblewrap with one hole, named by its last argument; for tests only."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Final

from job_engine.sandbox.bubblewrap import (
    child,
    holder,
    root,
    running,
    seccomp,
    syscalls,
    walk,
    zygote,
)

_ALLOW_ALL: Final = b"\x06\x00\x00\x00\x00\x00\xff\x7f"
"""A filter of one instruction: return "allow"."""


def _network() -> None:
    real = syscalls.unshare

    syscalls.unshare = lambda flags: real(flags & ~syscalls.CLONE_NEWNET)
    child._enter_own_network = lambda: None


def _disk() -> None:
    real = holder._mount_tree

    def mount(path: str, size_bytes: int, inodes: int, owner: int) -> None:
        real(path, size_bytes * 64, inodes * 64, owner)

    holder._mount_tree = mount


def _filter() -> None:
    seccomp.build = lambda machine: _ALLOW_ALL


def _processes() -> None:
    """Phases are in the slot's own pid namespace, and what one left is nobody's business."""
    running._fork_into_new_pids = lambda pids: os.fork()
    child._see_own_processes = lambda: None


def _results() -> None:
    def entry(
        self: walk.Harvest, directory: int, name: str, shown: str, depth: int
    ) -> Iterator[tuple[str, int, Iterator[bytes]]]:
        with open(
            name, "rb", opener=lambda path, flags: os.open(path, flags, dir_fd=directory)
        ) as f:
            data = f.read()
        yield shown, len(data), iter([data])

    walk.Harvest._entry = entry  # type: ignore[method-assign]


def _host() -> None:
    real = root._fill_dev

    def fill(kvm: bool) -> None:
        real(kvm)
        root._bind_read_only("/var/tmp", "hosts")

    root._fill_dev = fill


HOLES: Final = {
    "network": _network,
    "disk": _disk,
    "filter": _filter,
    "processes": _processes,
    "results": _results,
    "host": _host,
}


if __name__ == "__main__":
    HOLES.get(sys.argv.pop(), lambda: None)()
    zygote.main()
