"""How many files and connections a service may have open at once."""

from __future__ import annotations

import resource
from typing import Final

from job_engine.log import get_logger

log = get_logger(__name__)

ENOUGH: Final = 1024
"""What a service has always been given; with less it may run out in ordinary work."""


def allow_many() -> None:
    """Raise this process's limit of open files to the most that it may set itself.

    Shells and service managers leave it at 1,024, for the sake of select(2), which nothing
    here uses. An API that is followed by a thousand browsers has more connections. One that
    has reached its limit closes what comes without a word, so it is said here.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if 0 <= most < ENOUGH:  # -1: no limit
        log.warning("open_files.few", limit=most)
