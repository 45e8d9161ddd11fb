"""How many short jobs an executor holds that still wait for a thread.

Executors claim so many ahead, and distributors keep as many fewer in the queue: all that
is before a newcomer is one window, wherever it waits.
"""

from __future__ import annotations

from typing import Final

LEAST_AHEAD: Final = 64
"""However slow it is."""
MOST_AHEAD: Final = 512
"""However fast it is."""
AHEAD_S: Final = 0.2
"""Otherwise as many as it takes on in this time."""


def held_ahead(per_s: float) -> int:
    """Return how many that is where so many short jobs are taken on in a second."""
    return min(MOST_AHEAD, max(LEAST_AHEAD, int(per_s * AHEAD_S)))
