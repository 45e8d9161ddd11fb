"""Group commit: the units that wait together share a transaction, and so its way to the disk."""

from __future__ import annotations

import queue
import threading
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
        apart: Callable[[Connection], AbstractContextManager[object]] = Connection.begin_nested,
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
    """A thread that hands what was submitted to `commit`, as many tasks at once as wait."""

    def __init__(
        self, commit: Callable[[Sequence[Task]], None], max_batch: int = MAX_BATCH
    ) -> None:
        self._commit = commit
        self._max_batch = max_batch
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
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
                self._tasks.put(None)
        if was_open:
            self._thread.join()

    def submit(self, unit: Unit[T]) -> Future[T]:
        """Queue a unit. Raises `StoreError` once it is stopped."""
        future: Future[T] = Future()
        with self._gate:
            if not self._open:
                raise StoreError("The store is closed.")
            self._tasks.put(Task(unit, future))
        return future

    def _run(self) -> None:
        stopping = False
        while not stopping:
            tasks, stopping = self._next()
            if tasks:
                self._commit(tasks)

    def _next(self) -> tuple[Sequence[Task], bool]:
        """Wait for a task, then take what else is there. True: nothing comes after it."""
        tasks: list[Task] = []
        task = self._tasks.get()
        while task is not None:
            tasks.append(task)
            if len(tasks) == self._max_batch:
                return tasks, False
            try:
                task = self._tasks.get_nowait()
            except queue.Empty:
                return tasks, False
        return tasks, True
