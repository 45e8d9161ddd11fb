"""Group commit: the units that wait together share a transaction, and so its way to the disk."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from job_engine.errors import StoreError
from job_engine.store.base import T, Unit, announced

MAX_BATCH: Final = 256
"""Most units that share a commit; bounds how long the first of them waits."""


Apart = Callable[[Connection], AbstractContextManager[object]]
"""Keeps apart units that share a transaction: what fails in its block is undone, and only that."""


@dataclass(frozen=True)
class Task:
    """A unit, and who waits for its result."""

    unit: Unit[Any]
    future: Future[Any]


class Batch:
    """Units that share a transaction, and what became of each.

    `explain` makes of an error what the unit's submitter is told. One for which `ends` is
    true is no unit's own, such as a lost connection: `run` raises it.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        explain: Callable[[Exception], Exception],
        ends: Callable[[Exception], bool] = lambda _error: False,
    ) -> None:
        self._tasks = [task for task in tasks if task.future.set_running_or_notify_cancel()]
        self._explain = explain
        self._ends = ends
        self._results: list[tuple[Future[Any], Any]] = []
        self._failures: list[tuple[Future[Any], Exception]] = []
        self._topics: set[str] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def topics(self) -> frozenset[str]:
        """What the units announced."""
        return frozenset(self._topics)

    def run(
        self,
        connection: Connection,
        apart: Apart,
    ) -> None:
        """Run the units, each `apart`: under its savepoint, so that its failure is its own.

        It may be run again, after a rollback.
        """
        self._forget()
        for task in self._tasks:
            announced(connection)
            try:
                with apart(connection):
                    result = task.unit(connection)
            except Exception as error:
                if self._ends(error):
                    raise
                self._failures.append((task.future, self._explained(error)))
            else:
                self._results.append((task.future, result))
                self._topics |= announced(connection)

    def refuse(self, error: Exception) -> None:
        """Note that nothing was committed: those have failed, too, that had not by themselves."""
        failed, refusal = self._failures, self._explained(error)
        self._forget()
        told = {future for future, _ in failed}
        others = [(task.future, refusal) for task in self._tasks if task.future not in told]
        self._failures = failed + others

    def answer(self) -> None:
        """Tell everybody who waits."""
        for future, result in self._results:
            future.set_result(result)
        for future, reason in self._failures:
            future.set_exception(reason)

    def _forget(self) -> None:
        self._results, self._failures, self._topics = [], [], set()

    def _explained(self, error: Exception) -> Exception:
        explained = self._explain(error)
        if explained is not error:
            explained.__cause__ = error
        return explained


class Writer:
    """Hands what was submitted to `commit`, as many tasks at once as wait.

    Whoever waits for a unit commits it in their own thread while nobody else commits: to
    wake another thread, and be woken by it, costs as much as a small unit does. What
    gathers meanwhile, and what nobody waits for, is a thread's of its own.
    """

    def __init__(
        self, commit: Callable[[Sequence[Task]], None], max_batch: int = MAX_BATCH
    ) -> None:
        self._commit = commit
        self._max_batch = max_batch
        self._tasks: deque[Task] = deque()
        # Held by who commits: they alone take tasks.
        self._turn = threading.Lock()
        # A word that there are tasks; False: and that none will follow.
        self._wake: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        # Taken to submit, so that nothing is queued behind the order to stop.
        self._gate = threading.Lock()
        self._open = False

    def start(self) -> None:
        """Accept tasks."""
        self._open = True
        self._thread.start()

    def stop(self) -> None:
        """Commit what was submitted, and accept no more. Idempotent."""
        with self._gate:
            was_open, self._open = self._open, False
        if was_open:
            self._wake.put(False)
            self._thread.join()

    def submit(self, unit: Unit[T]) -> Future[T]:
        """Queue a unit. Raises `StoreError` once it is stopped."""
        future = self._queue(unit)
        self._wake.put(True)
        return future

    def run(self, unit: Unit[T]) -> T:
        """Have a unit committed, and return its result. Raises as `submit` and as the unit."""
        future = self._queue(unit)
        if self._turn.acquire(blocking=False):
            try:
                while not future.done():
                    self._commit(self._next())
            finally:
                self._turn.release()
            # Who came while this one committed left theirs to whoever is next.
            if self._tasks:
                self._wake.put(True)
        return future.result()

    def _queue(self, unit: Unit[T]) -> Future[T]:
        future: Future[T] = Future()
        with self._gate:
            if not self._open:
                raise StoreError("The store is closed.")
            self._tasks.append(Task(unit, future))
        return future

    def _run(self) -> None:
        more = True
        while more:
            more = self._wake.get()
            with self._turn:
                while self._tasks:
                    self._commit(self._next())

    def _next(self) -> Sequence[Task]:
        """Take what waits, up to a batch."""
        return [self._tasks.popleft() for _ in range(min(len(self._tasks), self._max_batch))]
