"""A thread pool for work that waits for the store, so that the event loop never does.

anyio's and `concurrent.futures`' pools cost a small request four times as much, for features
that are not needed here: limits shared by tasks, and cancelling.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

T = TypeVar("T")

THREADS: Final = 100
"""Threads, and so requests that may wait for the store at the same time."""


@dataclass(frozen=True)
class _Task:
    work: Callable[[], Any]
    context: Context
    answer: asyncio.Future[Any]

    def run(self) -> Callable[[], None]:
        """Do the work; return the function that passes the result or error to the caller."""
        try:
            result = self.context.run(self.work)
        except StopIteration as error:
            # A future does not accept `StopIteration`, and its caller would wait for ever.
            return partial(self._deliver, self.answer.set_exception, RuntimeError(repr(error)))
        except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
            return partial(self._deliver, self.answer.set_exception, error)
        return partial(self._deliver, self.answer.set_result, result)

    def _deliver(self, deliver: Callable[[Any], None], what: object) -> None:
        def unless_cancelled() -> None:
            if not self.answer.done():
                deliver(what)

        try:
            self.answer.get_loop().call_soon_threadsafe(unless_cancelled)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more


class Threads:
    """At most `most` threads, each started when work arrives and no thread is idle."""

    def __init__(self, most: int = THREADS) -> None:
        self._most = most
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._started = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Call `work` in a thread, with the caller's context variables; return its result.

        For one event loop. Work goes on if its caller is cancelled. Raises what `work` raises.
        """
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._tasks.put(_Task(work, copy_context(), answer))
        if not self._idle.acquire(blocking=False) and self._started < self._most:
            self._started += 1
            threading.Thread(target=self._loop, name=f"api-{self._started}", daemon=True).start()
        return await answer

    def close(self) -> None:
        """End the threads once all submitted work is done; no work may follow."""
        for _ in range(self._started):
            self._tasks.put(None)

    def _loop(self) -> None:
        while (task := self._tasks.get()) is not None:
            deliver = task.run()
            # Idle before the caller learns the result, because it may submit work at once.
            self._idle.release()
            deliver()
            # Drop references, or the task would live until the next one arrives.
            del task, deliver
