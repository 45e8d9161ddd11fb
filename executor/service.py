"""The executor service: its parts, and the order in which they start and stop."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

from executor.board import Board
from executor.breaker import Breaker
from executor.claimer import Claimer
from executor.reporter import Reporter
from executor.run import Run
from executor.scratch import Scratch
from executor.watchdog import STUCK_S, Watchdog
from executor.workers import Workers, outcome_of, outcome_of_interrupted
from job_engine import __version__
from job_engine.client import Api, event_stream
from job_engine.errors import Cancelled, ClaimLost, Drained, QueueError, TimedOut
from job_engine.grading.preflight import check_settings
from job_engine.log import get_logger
from job_engine.model import SUPPORTED_VERSION, Answer, ExecutionMode, Job, JobState
from job_engine.model.protocol.actions import ActionDescription
from job_engine.model.protocol.claims import ClaimReply
from job_engine.model.protocol.events import JobEvent
from job_engine.plugins import Action
from job_engine.queue import QueueClaim, Registration, ZooKeeperClaimQueue, open_session
from job_engine.queue.fleet import watch_drain, watch_registration, withdraw_drain
from job_engine.sandbox.base import Sandbox
from job_engine.sandbox.factory import make_sandbox
from job_engine.sandbox.warm import WarmSlots
from job_engine.settings import ExecutorSettings

log = get_logger(__name__)

EXIT_STUCK_ACTION: Final = 86
"""Exit code when an interrupted action does not end; a supervisor restarts the process."""

FLUSH_S: Final = 5.0
"""Seconds to send outcomes and release entries after all runs were interrupted."""

LEAST_FLUSH_S: Final = 1.0
"""Seconds that are left for that after the actions have ended, at least."""


class Executor:
    """An executor process: `start` it, `wait` until it is asked to drain, `stop` it.

    Args:
        settings: the operator's settings.
        actions: the loaded actions, by name.
    """

    def __init__(self, settings: ExecutorSettings, actions: Mapping[str, Action[Any]]) -> None:
        check_settings(settings)
        self._settings = settings
        self._draining = threading.Event()
        self._giving_back = threading.Event()
        self._api = Api.from_settings(settings)
        self._sandbox = _warm_slots(settings) if settings.sandbox else None
        self._collaborators: dict[type[Any], object] = {Api: self._api, ExecutorSettings: settings}
        if self._sandbox is not None:
            self._collaborators[Sandbox] = self._sandbox
        self._actions = {
            name: action
            for name, action in actions.items()
            if set(action.needs) <= set(self._collaborators)
        }
        self._left_out = sorted(set(actions) - set(self._actions))
        """Actions that are not run here because they need something missing, such as a sandbox."""
        self._scratch = Scratch(settings.scratch_dir, settings.name)
        self._session = open_session(settings)
        self._session.on_lost(lambda: self._board.interrupt_all(ClaimLost))
        self._queue = ZooKeeperClaimQueue(self._session, settings.queue_root, settings.name)
        self._board = Board(settings.threads)
        self._session.quiet_while(self._board.empty)
        self._breaker = Breaker(self._api.ready)
        self._reporter = Reporter(self._api, self._queue, self._board, self._breaker, settings.name)
        self._workers = Workers(settings.threads, self._board, self._reporter)
        self._watchdog = Watchdog(self._board, self._on_stuck)
        self._events = event_stream(
            self._api,
            self._on_event,
            self._reporter.beat,
            {"state": [JobState.CANCELED, JobState.FAILED]},
        )
        self._claimer = self._make_claimer()
        # Only our clock may have ended the session: then it comes back, with claims that were
        # let go because it was lost, and registering finds and releases them.
        self._session.on_lost(self._claimer.register_again)

    def _make_claimer(self) -> Claimer:
        return Claimer(
            session=self._session,
            queue=self._queue,
            api=self._api,
            board=self._board,
            breaker=self._breaker,
            reporter=self._reporter,
            name=self._settings.name,
            published=[self._describe(action) for action in self._actions.values()],
            about=self._about,
            dispatch=self._dispatch,
            on_registered=self._on_registered,
        )

    # --- life -----------------------------------------------------------------

    def start(self) -> None:
        """Remove what an earlier process of this name left behind, then start claiming.

        Raises `ConfigurationError` when another executor of this name runs on this
        machine, and `SandboxRefusedError` when the sandbox cannot be used here.
        """
        self._scratch.open()
        if self._sandbox is not None:
            self._sandbox.check()
            swept = self._sandbox.sweep(self._settings.name)
            if swept:
                log.info("executor.swept", left_behind=swept)
            self._sandbox.start()
        self._session.start()
        for part in (self._reporter, self._workers, self._watchdog, self._events, self._claimer):
            part.start()
        log.info(
            "executor.started",
            name=self._settings.name,
            threads=self._settings.threads,
            actions=",".join(self._actions),
            sandbox=self._settings.sandbox,
            left_out=",".join(self._left_out),
        )

    def wait(self) -> None:
        """Wait until a drain is asked for."""
        self._draining.wait()

    def drain(self) -> None:
        """Ask for a drain, from any thread or a signal handler."""
        self._draining.set()

    def stop(self, hurry: threading.Event) -> None:
        """Stop claiming, let running actions finish, give the rest back, and end.

        Waits up to the setting `drain_s` for actions to finish, but not once `hurry`
        is set.
        """
        self._draining.set()
        log.info("executor.draining", running=len(self._board.runs()))
        if self._sandbox is not None:
            self._sandbox.retire()
        self._claimer.stop(timeout_s=STUCK_S)
        for run in self._board.runs():
            if run.started_at is None:  # prefetched: another executor runs it sooner
                run.interrupt(Drained())
        deadline = time.monotonic() + self._settings.drain_s
        while not hurry.is_set() and time.monotonic() < deadline:
            if self._board.wait_idle(0.1):
                break
        self._giving_back.set()
        self._board.interrupt_all(Drained)
        # One deadline for all steps: where the API does not answer, each would take its full
        # timeout, and together they would exceed the supervisor's grace period.
        flushed_by = time.monotonic() + FLUSH_S
        self._board.wait_idle(STUCK_S)
        flushed_by = max(flushed_by, time.monotonic() + LEAST_FLUSH_S)
        self._board.wait_empty(max(0.0, flushed_by - time.monotonic()))
        self._close(flushed_by)
        log.info("executor.stopped", name=self._settings.name)

    def _close(self, flushed_by: float) -> None:
        self._watchdog.stop()
        self._reporter.stop(max(0.1, flushed_by - time.monotonic()))
        self._events.stop()
        self._withdraw_drain()
        self._session.stop()
        self._workers.stop(timeout_s=0.1)
        self._api.close()
        if self._sandbox is not None:
            self._sandbox.close()
        self._scratch.close()

    def _withdraw_drain(self) -> None:
        if not self._session.alive():
            return
        try:
            withdraw_drain(self._session.client, self._settings.name)
        except QueueError as error:
            log.warning("drain.not_withdrawn", error=error.message)

    # --- what the parts call --------------------------------------------------

    def _about(self) -> dict[str, object]:
        return {
            "name": self._settings.name,
            "host": socket.gethostname(),
            "threads": self._settings.threads,
            "actions": list(self._actions),
            "sandbox": self._settings.sandbox,
            "version": __version__,
            "job_version": SUPPORTED_VERSION,
            "draining": self._draining.is_set(),
        }

    def _on_registered(self, registration: Registration) -> None:
        # A watch ends with its connection, even if the session survives.
        watch_registration(
            self._session.client, registration.node, on_gone=self._claimer.register_again
        )
        watch_drain(
            self._session.client,
            self._settings.name,
            on_request=self.drain,
            on_unwatched=self._claimer.register_again,
        )

    def _dispatch(self, claim: QueueClaim, reply: ClaimReply, *, give_back: bool) -> None:
        job = _job(claim, reply)
        run = Run(
            job=job,
            claim=claim,
            action=self._actions[job.action],
            collaborators=self._collaborators,
            scratch_root=self._scratch.root,
            on_update=self._reporter.update,
        )
        if give_back:
            run.interrupt(Drained())
            # `outcome_of` sees the interruption; without it, a run that returns nothing succeeds.
            self._reporter.end(run, outcome_of(run))
            return
        # Listed before the session is checked: if the session were lost in between, every
        # run but this one would be interrupted.
        self._board.add(run)
        if not self._session.holds(claim.registration.session_id):
            # lost-means-stop: the API took longer to answer than the session lasted.
            run.interrupt(ClaimLost())
        elif self._giving_back.is_set():
            run.interrupt(Drained())
        self._workers.submit(run)

    def _on_event(self, event: JobEvent) -> None:
        if not event.state.is_final:
            return
        for run in self._board.of_job(event.job):
            run.interrupt(Cancelled())

    def _describe(self, action: Action[Any]) -> ActionDescription:
        terms = action.terms(self._collaborators)
        found = {self._settings.name: terms} if terms else {}
        return describe(action).model_copy(update={"terms": found})

    def _on_stuck(self, run: Run) -> None:
        log.critical("executor.exit", code=EXIT_STUCK_ACTION, job=run.job.id)
        # Exit even if closing the sandbox hangs.
        last_resort = threading.Timer(STUCK_S, os._exit, (EXIT_STUCK_ACTION,))
        last_resort.daemon = True
        last_resort.start()
        try:
            if isinstance(run.interruption, TimedOut):
                # Its outcome is known. Run again, it would only end the next executor too.
                self._reporter.end(run, outcome_of_interrupted(run))
                self._reporter.stop(LEAST_FLUSH_S)
            # Ending the session releases the claim; the job runs again under a newer fence.
            self._session.stop(timeout_s=1.0)
            if self._sandbox is not None:
                self._sandbox.close()
        finally:
            os._exit(EXIT_STUCK_ACTION)


def _warm_slots(settings: ExecutorSettings) -> WarmSlots:
    return WarmSlots(
        make_sandbox(settings),
        slots=settings.warm_slots,
        memory_bytes=settings.warm_memory_bytes,
        at_once=settings.threads,
    )


def describe(action: Action[Any]) -> ActionDescription:
    """Describe an action to the API and the distributors."""
    schedule = action.schedule
    return ActionDescription(
        name=action.name,
        payload_schema=action.payload.model_json_schema(),
        timeout_s=action.timeout_s,
        cost=action.cost,
        short=action.short,
        restricted=action.restricted,
        interval_s=schedule.interval_s if schedule else None,
        cron=schedule.cron if schedule else None,
    )


def _job(claim: QueueClaim, reply: ClaimReply) -> Job:
    document = reply.document or {}
    return Job(
        id=claim.job_id,
        action=document["action"],
        state=JobState.RUNNING,
        execution_mode=ExecutionMode(document.get("execution-mode", "push")),
        entry=claim.entry,
        fence=claim.fence,
        resumed=reply.answer is Answer.RESUME,
        attempts=reply.attempts,
        interruptions=reply.interruptions,
        payload=document.get("payload"),
        document=document,
    )
