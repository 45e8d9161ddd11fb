"""An action that does nothing, and says that it is short."""

from __future__ import annotations

from typing import Any

from job_engine.plugins import Context, action


@action("nothing", timeout_s=60, cost=0.001, short=True)
def nothing(_context: Context[Any]) -> None:
    """Return at once."""
