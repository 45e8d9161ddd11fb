"""Running a companion's container in a thread of its own until its phase has ended."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from job_engine.errors import SandboxError
from job_engine.log import get_logger
from job_engine.sandbox.docker.phase import Ending, PhaseContainer
from job_engine.sandbox.docker.watch import Stop

_END_S: Final = 120.0

log = get_logger(__name__)


@dataclass(frozen=True)
class Ended:
    """How a companion ended."""

    ending: Ending
    was_running: bool
    """Whether it was still running when its phase ended."""


class Companion:
    """Runs a companion's container: call `begin`, then `end`."""

    def __init__(self, container: PhaseContainer, environment: Mapping[str, str]) -> None:
        self._container = container
        self._environment = environment
        self._started = threading.Event()
        self._ending = Ending()
        self._error: SandboxError | None = None
        self._was_over = False
        self._thread = threading.Thread(target=self._run, name="docker-companion", daemon=True)

    def begin(self) -> None:
        """Start the companion; return once its go was sent. Raises `SandboxError`."""
        self._thread.start()
        self._started.wait()
        self._check()

    def end(self) -> Ended:
        """End it, and return how it ended. Raises `SandboxError`. Idempotent."""
        # Docker may not know yet that it has ended on its own.
        self._was_over = self._was_over or self._container.over()
        self._container.kill()
        if self._thread.ident is not None:
            self._thread.join(_END_S)
        if self._thread.is_alive():
            raise SandboxError("a companion's container cannot be ended")
        self._check()
        if self._ending.reason is not Stop.KILLED:
            return Ended(self._ending, was_running=False)
        return Ended(replace(self._ending, reason=None), was_running=not self._was_over)

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._ending = self._container.run(self._environment, b"", on_start=self._started.set)
        except SandboxError as error:
            self._error = error
        except Exception as error:  # `end` raises it.
            log.exception("docker.companion.broken")
            self._error = SandboxError(f"a companion broke: {error!r}")
        finally:
            self._started.set()
