"""The real executor, taken apart into the turns that its threads take.

What `Executor` wires together is wired here too: claimer, reporter, workers, board,
breaker, queue and session are its own. Only nobody starts its threads: a turn of one
happens when a test says so, and others may have theirs between any two requests.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, cast
from unittest import mock

from executor import prefetch, service
from executor.asker import Answered, Asker
from executor.reporter import PROGRESS_S
from executor.run import Run
from job_engine.client import Api
from job_engine.errors import ActionFailedError, Drained, PlatformFaultError
from job_engine.model.protocol.claims import ClaimReply
from job_engine.plugins import Action, Context, Result, action
from job_engine.queue import QueueClaim
from job_engine.settings import ExecutorSettings
from tests.contract.protocol.api import StoreApi
from tests.contract.protocol.book import Book
from tests.contract.protocol.distributors import TIMEOUT_S
from tests.contract.protocol.small_client import Net, SmallSession
from tests.contract.protocol.small_zookeeper import SmallZooKeeper

ACTIONS: Final = ("one", "two")
SHORT: Final = ("two",)
"""Claimed ahead, once all that is claimed is of it."""
AHEAD: Final = 2
"""How far, so that there is a job left to claim ahead of so few."""
THREADS: Final = 2
ENDS: Final = ("success", "success", "failure", "fault", "fault", "drained", "drained")
"""How runs end."""


class ExecutorProcess:
    """One executor, from its start until it is killed."""

    def __init__(self, name: str, zk: SmallZooKeeper, book: Callable[[], Book]) -> None:
        self.name = name
        self.net = Net()
        self.paused = False
        self.api = StoreApi(book, self.net)
        self.session = SmallSession(zk, self.net, TIMEOUT_S)
        self._busy: set[str] = set()
        self._end = "success"
        settings = ExecutorSettings(
            name=name,
            threads=THREADS,
            scratch_dir=Path(tempfile.gettempdir()),
            sandbox=None,
        )
        with (
            mock.patch.object(service, "open_session", return_value=self.session),
            mock.patch.object(Api, "from_settings", return_value=cast(Api, self.api)),
        ):
            self.parts = service.Executor(settings, {name: self._action(name) for name in ACTIONS})
        self._asks_at_once = False
        asker = self.parts._claimer._asker
        setattr(asker, "ask_soon", self._asked(asker))  # noqa: B010 - it is a method
        queue = self.parts._queue
        wait = queue.wait
        setattr(queue, "wait", lambda _timeout_s: wait(0))  # noqa: B010 - it is a method
        self.session.tick()

    def _action(self, name: str) -> Action[Any]:
        @action(name, short=name in SHORT)
        def run(context: Context[Any]) -> Result:
            match self._end:
                case "failure":
                    raise ActionFailedError("It does not compile.")
                case "fault":
                    raise PlatformFaultError("The image did not arrive.")
            return Result()

        return run

    def _asked(self, asker: Asker) -> Callable[[list[QueueClaim]], Answered]:
        """Give the asker its turns: every second time at once, else when its answer is awaited."""
        ask_soon = asker.ask_soon

        def turns() -> None:
            while not asker._inbox.empty():
                asker._turn()

        def asked(claims: list[QueueClaim]) -> Answered:
            answer = ask_soon(claims)
            self._asks_at_once = not self._asks_at_once
            if self._asks_at_once:
                turns()

            def awaited() -> list[ClaimReply]:
                turns()
                return answer()

            return awaited

        return asked

    # --- what its threads do --------------------------------------------------

    def claims_on(self) -> None:
        """Two passes, so that jobs are known to be short in the second, and claimed ahead."""
        self.claims(2)

    def claims(self, passes: int = 1) -> None:
        """A turn of the claimer, whatever comes of it. Its loop ends as at a stop."""
        claimer = self.parts._claimer
        with self._turn("claimer") as mine:
            if mine:
                claimer._stopping.clear()
                one_pass = type(claimer)._pass
                left = passes

                def counted() -> None:
                    nonlocal left
                    left -= 1
                    try:
                        one_pass(claimer)
                    finally:
                        if left == 0:
                            claimer._stopping.set()

                with (
                    mock.patch.object(claimer, "_pass", counted),
                    mock.patch.object(prefetch, "PROVEN", 1),
                    mock.patch.object(prefetch, "held_ahead", return_value=AHEAD),
                ):
                    claimer._loop()

    def reports(self) -> None:
        """One turn of the reporter, where anything is due."""
        reporter = self.parts._reporter
        with self._turn("reporter") as mine:
            if mine and reporter._due():
                reporter._turn()

    def ends(self, which: int, how: str) -> None:
        """One of the runs comes to its end."""
        runs = self.runs
        if not runs or self.paused:
            return
        run = runs[which % len(runs)]
        if how == "drained":
            run.interrupt(Drained())
        self._end = how
        inbox = self.parts._workers._inbox
        while not inbox.empty():
            inbox.get_nowait()
        inbox.put(run)
        inbox.put(None)
        self.parts._workers._work()

    def tells(self, which: int) -> None:
        """One of the runs has progress to tell."""
        runs = [run for run in self.runs if run.interruption is None]
        if runs and not self.paused:
            runs[which % len(runs)].progress(50)
            self.parts._reporter._progress_at -= PROGRESS_S

    @property
    def runs(self) -> list[Run]:
        """What runs in its threads, in the order of the entries."""
        return sorted(self.parts._board.runs(), key=lambda run: run.claim.entry)

    @property
    def quiet(self) -> bool:
        """Whether it has nothing in hand."""
        board = self.parts._board
        return not board.runs() and not board._held

    @contextlib.contextmanager
    def _turn(self, thread: str) -> Iterator[bool]:
        """Say whether this thread may go on: it is not in the middle of a turn already."""
        if self.paused or thread in self._busy:
            yield False
            return
        self._busy.add(thread)
        try:
            yield True
        finally:
            self._busy.discard(thread)
