"""How many files and connections a service may have open at once."""

from __future__ import annotations

import resource


def allow_many() -> None:
    """Raise this process's limit of open files to the most that it may set itself.

    Shells and service managers leave it at 1,024, for the sake of select(2), which nothing
    here uses. An API that is followed by a thousand browsers has more connections.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
