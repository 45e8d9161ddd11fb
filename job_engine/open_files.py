"""The limit on open files, connections among them, of a service."""

from __future__ import annotations

import resource
from typing import Final

from job_engine.log import get_logger

log = get_logger(__name__)

USUAL: Final = 1024
"""The usual soft limit. With a smaller one, a service may run out of descriptors."""


def raise_limit() -> None:
    """Raise this process's soft limit of open files to its hard limit; warn if that is small.

    Shells and service managers set 1,024 for programs with select(2), which nothing here uses.
    An API with a thousand event streams needs more, and at its limit it closes new connections
    without a log line.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if 0 <= most < USUAL:  # -1: no limit
        log.warning("open_files.few", limit=most)
