"""Supervising an engine: starts its parts in order, restarts them, stops in reverse order."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from job_engine.cli.signals import HURRY_SIGNALS, stop_signals
from job_engine.cli.up.child import MAX_BACKOFF_S, Child, Output, describe_exit
from job_engine.errors import JobEngineError
from job_engine.queue.local import LocalZooKeeper

POLL_S = 0.1
ZOOKEEPER_BACKOFF_S = 1.0


class StartFailedError(JobEngineError):
    """A part of the engine ended while the engine was starting."""


class Stopped(BaseException):
    """A signal asked to stop before the engine was ready."""


class Supervisor:
    """The children of one engine, and the signals that stop it."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._zookeeper: LocalZooKeeper | None = None
        self._layers: list[list[Child]] = []
        self._signals = 0
        self._zookeeper_at = 0.0
        """When ZooKeeper is started again, monotonic seconds."""
        self._zookeeper_backoff_s = ZOOKEEPER_BACKOFF_S

    @contextmanager
    def signals(self) -> Iterator[None]:
        """In the block, signals to stop are counted, and otherwise ignored."""
        wanted = stop_signals()
        before = [signal.signal(number, self._on_signal) for number in wanted]
        try:
            yield
        finally:
            for number, handler in zip(wanted, before, strict=True):
                signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        # Nothing that locks: the thread that this interrupts may hold the lock.
        if number in HURRY_SIGNALS or not self._signals:
            self._signals += 1

    def start_zookeeper(self, server: LocalZooKeeper) -> None:
        """Start the engine's own ZooKeeper; it is the last to stop."""
        server.start()
        self._zookeeper = server

    def start(self, children: Sequence[Child], ready: Callable[[], bool], timeout_s: float) -> None:
        """Start a layer and wait until it is ready; it is stopped before earlier ones.

        Raises `StartFailedError` when a child ends or is not ready in time, `Stopped`
        when a signal came first.
        """
        self._layers.append(list(children))
        for child in children:
            child.start()
        deadline = time.monotonic() + timeout_s
        while not ready():
            for child in children:
                if not child.alive:
                    raise StartFailedError(
                        f"{child.name} {describe_exit(child.exit_code)} before it was ready; "
                        "what it said is above."
                    )
            if time.monotonic() > deadline:
                names = ", ".join(child.name for child in children)
                raise StartFailedError(f"{names}: not ready after {timeout_s:.0f} s.")
            time.sleep(POLL_S)
            if self._signals:
                raise Stopped

    def run(self) -> None:
        """Restart children that die, until a signal to stop."""
        while not self._signals:
            for layer in self._layers:
                for child in layer:
                    child.tend()
            self._tend_zookeeper()
            time.sleep(POLL_S)

    def _tend_zookeeper(self) -> None:
        if self._zookeeper is None or time.monotonic() < self._zookeeper_at:
            return
        if self._zookeeper.running():
            self._zookeeper_backoff_s = ZOOKEEPER_BACKOFF_S
            return
        self._output.line("zookeeper", "has died; starting it again")
        try:
            self._zookeeper.start()
        except (JobEngineError, OSError) as error:
            # For instance, its disk is full. The rest goes on, and this is tried again.
            self._output.line("zookeeper", str(error))
            self._zookeeper_at = time.monotonic() + self._zookeeper_backoff_s
            self._zookeeper_backoff_s = min(2 * self._zookeeper_backoff_s, MAX_BACKOFF_S)

    def stop(self) -> None:
        """Stop all layers, the last started one first. A second signal skips the waiting."""
        for layer in reversed(self._layers):
            self._stop_layer(layer)
        self._layers.clear()
        if self._zookeeper is not None:
            self._zookeeper.stop()

    def _stop_layer(self, layer: Sequence[Child]) -> None:
        for child in layer:
            child.terminate()
        hurried = self._signals > 1
        deadline = time.monotonic() + max((child.stop_timeout_s for child in layer), default=0)
        while any(child.alive for child in layer):
            if self._signals > 1 and not hurried:
                hurried = True
                for child in layer:
                    child.terminate()
            if time.monotonic() > deadline:
                for child in layer:
                    child.kill()
            time.sleep(0.05)
        for child in layer:
            child.release()
