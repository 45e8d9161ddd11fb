"""A circuit breaker for the API (api-down-means-release).

While it is open, nothing is claimed: claiming and releasing in a loop would load
ZooKeeper without running a single job.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from job_engine.errors import ApiError, ApiUnavailableError
from job_engine.log import get_logger

log = get_logger(__name__)


class Breaker:
    """Closed while the API answers; opened by any thread that got no answer, or is unwelcome."""

    def __init__(self, probe: Callable[[], bool]) -> None:
        """`probe` asks the API once, and says whether it answered."""
        self._probe = probe
        self._open = threading.Event()

    @property
    def open(self) -> bool:
        """Whether the API counts as unreachable."""
        return self._open.is_set()

    def trip(self, error: ApiError) -> None:
        """Open the breaker; the first error is logged as what it is, no answer or a refusal."""
        if not self._open.is_set():
            if isinstance(error, ApiUnavailableError):
                log.warning("api.unreachable", why=error.message)
            else:
                log.error("api.refused", error=error.message)
        self._open.set()

    def try_to_close(self) -> bool:
        """Ask the API; return whether the breaker is closed now."""
        if self._open.is_set() and self._probe():
            self._open.clear()
            log.info("api.reachable")
        return not self._open.is_set()
