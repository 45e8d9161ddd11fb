"""Follows a file of a tree while a phase runs, through the holder's root directory.

This needs an executor that is root on the Docker host. (A shell in the holder could not open a
file safely: it might follow a link, or block on a FIFO put in its place.) Elsewhere nothing is
reported before the phase has ended.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from job_engine.sandbox.base import Follow
from job_engine.sandbox.docker.confine import Place
from job_engine.sandbox.growth import PERIOD_S, Growth

_TREE: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def follower(place: Place, follow: Follow, on_data: Callable[[bytes], None]) -> Iterator[None]:
    """While entered, call `on_data` from another thread with what is added to the file."""
    tree = _tree_in_sight(place, follow.tree)
    if tree is None:
        yield
        return
    over = threading.Event()
    growth = Growth(follow.path)

    def run() -> None:
        while not over.wait(PERIOD_S):
            if data := growth.look(tree):
                on_data(data)

    thread = threading.Thread(target=run, name="docker-follow", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        os.close(tree)


def _tree_in_sight(place: Place, tree: str) -> int | None:
    """Return a descriptor of a tree's root; None if it is not visible."""
    if place.holder is None:
        return None
    with contextlib.suppress(OSError):
        found = os.open(f"/proc/{place.holder_pid}/root/trees/{tree}", _TREE)
        with contextlib.suppress(OSError):
            # A pid means something only in the daemon's own pid namespace. Read afterwards: who
            # is the holder now was the holder before.
            if place.holder in Path(f"/proc/{place.holder_pid}/cgroup").read_text():
                return found
        os.close(found)
    return None
