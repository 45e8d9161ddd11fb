"""The number of short jobs that an executor may prefetch.

Executors prefetch this many, and distributors keep that many fewer in the queue. So the number
of jobs ahead of a new one does not depend on how many were prefetched.
"""

from __future__ import annotations

from typing import Final

LEAST_AHEAD: Final = 64
"""Lower bound, for slow executors."""
MOST_AHEAD: Final = 512
"""Upper bound, for fast executors."""
AHEAD_S: Final = 0.2
"""Otherwise as many as the executor starts in this time, in seconds."""


def held_ahead(per_s: float) -> int:
    """Return the number to prefetch at a rate of `per_s` started short jobs a second."""
    return min(MOST_AHEAD, max(LEAST_AHEAD, int(per_s * AHEAD_S)))
