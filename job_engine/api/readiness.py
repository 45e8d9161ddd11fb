"""Whether the store answers: asked of it at most once a second, however many ask."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from job_engine.errors import JobEngineError
from job_engine.store.base import Database
from job_engine.store.counters import write_probe

PATIENCE_S: Final = 2.0
"""Seconds that the store's writer has: longer than any batch takes, shorter than a probe waits."""
KEPT_S: Final = 1.0
"""Seconds that a yes is good for: anybody may ask, and each question is a commit."""


class Readiness:
    """Asks the store's writer. Used from one thread: the event loop's."""

    def __init__(
        self, database: Database, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._monotonic_s = monotonic_s
        self._until_s = 0.0
        self._answer: asyncio.Future[bool] | None = None

    async def writer_answers(self) -> bool:
        """Whether the writer writes: it is alive, nothing holds it up, and the disk has room."""
        if self._answer is None or (self._answer.done() and self._monotonic_s() >= self._until_s):
            self._answer = asyncio.ensure_future(self._ask())
        # Whoever asked first may go away; the others still wait.
        return await asyncio.shield(self._answer)

    async def _ask(self) -> bool:
        try:
            done = self._database.submit(write_probe)
            # Given up, it is not run any more: a store that hangs does not pile up probes.
            await asyncio.wait_for(asyncio.wrap_future(done), PATIENCE_S)
        except (JobEngineError, TimeoutError):
            return False
        self._until_s = self._monotonic_s() + KEPT_S
        return True
