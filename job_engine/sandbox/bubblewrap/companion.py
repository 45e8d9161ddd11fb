"""Running a companion beside a phase, watched by a thread of its own."""

from __future__ import annotations

import selectors
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from job_engine.errors import SandboxError
from job_engine.sandbox.base import PhaseResult
from job_engine.sandbox.bubblewrap.phase import TICK_S, KillSwitch, PhaseRun
from job_engine.sandbox.verdict import ended_with_phase

_JOIN_S: Final = 10.0


class CompanionRun(PhaseRun):
    """Runs one companion: `started` around the phase's own run, then `result`."""

    _begun = _ended_at = 0.0
    _ending: dict[str, Any] | None = None

    @contextmanager
    def started(self) -> Iterator[None]:
        """Start it; while entered its limits hold. Raises `SandboxError`.

        It is ended at the end of the phase, which runs within: the holder then kills everything.
        """
        with ExitStack() as stack:
            try:
                self._let_go(stack, "companion")
                over = KillSwitch()
                stack.callback(over.close)
                self._begun = time.monotonic()
                thread = threading.Thread(target=self._follow, args=(over,), name="companion")
                thread.start()
                try:
                    yield
                    self._ending = self._hear_of_end()
                finally:
                    over.press()
                    thread.join(_JOIN_S)
                self._read_rest()
            except OSError as error:
                raise SandboxError(f"the slot broke: {error}") from error
        if thread.is_alive():
            raise SandboxError("a companion cannot be ended")

    def result(self) -> PhaseResult:
        """Return how it ended."""
        assert self._ending is not None, "`started` comes first"
        result = self._result(self._ending, self._ended_at - self._begun)
        return ended_with_phase(result) if self._ending["was_running"] else result

    def _hear_of_end(self) -> dict[str, Any]:
        message = self._channel.receive()
        if message is None:
            raise SandboxError("the slot's holder has died")
        if "ended" not in message.head:
            raise SandboxError(str(message.head.get("broken") or message.head.get("error")))
        self._ended_at = time.monotonic()
        return message.head

    def _follow(self, over: KillSwitch) -> None:
        """Read its output and hold it to its limits until the phase is over."""
        with selectors.DefaultSelector() as selector:
            for source in (self._out, self._err, over):
                selector.register(source, selectors.EVENT_READ)
            while not over.pressed:
                for key, _ in selector.select(TICK_S):
                    if key.fileobj is not over and not self._output.take(key.fd):
                        selector.unregister(key.fd)
                if self._must_stop(self._begun):
                    # The phase goes on, with a program that no longer answers.
                    self._group.kill()
