"""When to ask the API again for a retry that is not due yet."""

from __future__ import annotations

from typing import Final

LEAST_S: Final = 0.1
"""Shortest wait, in seconds, for a job that is due by this clock but not yet by the API's."""


class DueTimer:
    """Computes the wait until a retry is due by the API's clock, which may not be this one.

    If this clock is ahead of the API's, a retry seems overdue for as long as they differ. So each
    wait is as long as the retry has seemed overdue, or the API would be asked ten times a second.
    """

    def __init__(self) -> None:
        self._due_ms: int | None = None
        self._overdue_since = 0.0

    def wait_s(self, due_ms: int, wall_s: float, now: float) -> float:
        """Return the seconds to wait for a retry due at `due_ms`.

        `wall_s` is the local wall clock in seconds since the epoch, `now` the monotonic one.
        """
        left_s = due_ms / 1000 - wall_s
        if left_s > LEAST_S:
            self._due_ms = None
            return left_s
        if due_ms != self._due_ms:
            self._due_ms, self._overdue_since = due_ms, now
        return max(LEAST_S, now - self._overdue_since)
