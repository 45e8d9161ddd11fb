"""Group commit: units that wait at the same time share a transaction, and so one fsync."""

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
"""Isolates a unit within a shared transaction: a failure in the block undoes that unit alone."""


@dataclass(frozen=True)
class Task:
    """A unit, and the future for its result."""

    unit: Unit[Any]
    future: Future[Any]


class Batch:
    """Units that share a transaction, with the result of each.

    Args:
        tasks: the units.
        explain: converts the error of a unit into the one that its submitter gets.
        ends: whether an error ends the whole transaction, such as a lost connection; `run`
            raises such an error.
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
        """The topics that the units have announced."""
        return frozenset(self._topics)

    def run(
        self,
        connection: Connection,
        apart: Apart,
    ) -> None:
        """Run each unit in its own `apart` block. May be called again after a rollback."""
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
        """Mark all units as failed, because the transaction was not committed.

        Units that have failed themselves keep their own error.
        """
        failed, refusal = self._failures, self._explained(error)
        self._forget()
        failed_themselves = {future for future, _ in failed}
        others = [
            (task.future, refusal) for task in self._tasks if task.future not in failed_themselves
        ]
        self._failures = failed + others

    def answer(self) -> None:
        """Resolve all futures."""
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
    """Passes submitted units to `commit`, in batches of all that wait, up to `max_batch`.

    A thread that calls `run` commits by itself if no other thread is committing, because
    waking another thread and being woken by it costs as much as a small unit. All other units
    are committed by the writer's own thread.
    """

    def __init__(
        self, commit: Callable[[Sequence[Task]], None], max_batch: int = MAX_BATCH
    ) -> None:
        self._commit = commit
        self._max_batch = max_batch
        self._tasks: deque[Task] = deque()
        # Held by the thread that commits; only that one takes tasks.
        self._turn = threading.Lock()
        # Wakes the writer's thread; False: no more tasks will follow.
        self._wake: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        # Held while a task is queued, so that none is queued after `stop`.
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
        """Commit a unit and return its result. Raises what `submit` and the unit raise."""
        future = self._queue(unit)
        if self._turn.acquire(blocking=False):
            try:
                while not future.done():
                    self._commit(self._next())
            finally:
                self._turn.release()
            # Units that arrived meanwhile are left to the writer's thread.
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
        """Return the next batch."""
        return [self._tasks.popleft() for _ in range(min(len(self._tasks), self._max_batch))]
