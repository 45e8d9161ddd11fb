"""The readiness probe: whether the store's writer answers, checked once a second at most."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from job_engine.errors import JobEngineError
from job_engine.log import get_logger
from job_engine.store.base import Database
from job_engine.store.counters import write_probe

log = get_logger(__name__)

PATIENCE_S: Final = 2.0
"""Seconds for the store's writer to answer: longer than any batch, shorter than a probe waits."""
KEPT_S: Final = 1.0
"""Seconds for which an answer is reused: probes need no login, and each check is a commit."""


class Readiness:
    """Checks the store's writer, and caches the answer; for the event loop's thread alone."""

    def __init__(
        self, database: Database, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._monotonic_s = monotonic_s
        self._until_s = 0.0
        self._answer: asyncio.Future[bool] | None = None

    async def writer_answers(self) -> bool:
        """Return whether the writer commits: it is alive, not blocked, and the disk has room."""
        if self._answer is None or (self._answer.done() and self._monotonic_s() >= self._until_s):
            self._answer = asyncio.ensure_future(self._ask())
        # Shielded: the first caller may go away while others wait for the same check.
        return await asyncio.shield(self._answer)

    async def _ask(self) -> bool:
        try:
            done = self._database.submit(write_probe)
            # A cancelled probe is not run later, so a store that hangs does not collect them.
            await asyncio.wait_for(asyncio.wrap_future(done), PATIENCE_S)
        except TimeoutError:
            log.warning("store.stalled", waited_s=PATIENCE_S)
            return False
        except JobEngineError:
            return False  # the store has logged why
        self._until_s = self._monotonic_s() + KEPT_S
        return True
