"""Threads that wait for the store, so that the event loop never does.

What anyio and `concurrent.futures` have for it costs a small request four times as much as
this does, for what is not needed here: limits that tasks share, and cancelling.
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
"""Requests that may wait for the store at once."""


@dataclass(frozen=True)
class _Task:
    work: Callable[[], Any]
    context: Context
    answer: asyncio.Future[Any]

    def run(self) -> Callable[[], None]:
        """Do the work; returns what tells the caller what came of it."""
        try:
            result = self.context.run(self.work)
        except StopIteration as error:
            # A future does not take one, and whoever awaits it would wait for ever.
            return partial(self._tell, self.answer.set_exception, RuntimeError(repr(error)))
        except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
            return partial(self._tell, self.answer.set_exception, error)
        return partial(self._tell, self.answer.set_result, result)

    def _tell(self, tell: Callable[[Any], None], what: object) -> None:
        def unless_gone() -> None:
            if not self.answer.done():
                tell(what)

        try:
            self.answer.get_loop().call_soon_threadsafe(unless_gone)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more


class Threads:
    """At most so many threads, each started when there is more to do than threads are idle."""

    def __init__(self, most: int = THREADS) -> None:
        self._most = most
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._started = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Call `work` in a thread, with the caller's context; returns what it returns.

        For one event loop. Work whose caller is cancelled meanwhile is done all the same.
        Raises what `work` raises.
        """
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._tasks.put(_Task(work, copy_context(), answer))
        if not self._idle.acquire(blocking=False) and self._started < self._most:
            self._started += 1
            threading.Thread(target=self._loop, name=f"api-{self._started}", daemon=True).start()
        return await answer

    def close(self) -> None:
        """Let the threads end once what they have been given is done; nothing may follow."""
        for _ in range(self._started):
            self._tasks.put(None)

    def _loop(self) -> None:
        while (task := self._tasks.get()) is not None:
            tell = task.run()
            # Before: who is told may ask for a thread at once.
            self._idle.release()
            tell()
            # Nothing of it may stay here until the next one comes.
            del task, tell
