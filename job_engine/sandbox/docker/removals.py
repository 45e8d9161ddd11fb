"""Repeats removals that failed, for instance because the daemon was restarted."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from job_engine.errors import SandboxError
from job_engine.log import get_logger

_RETRY_S: Final = 0.5

log = get_logger(__name__)

Remove = Callable[[str], None]
"""Removes a container or a volume by name; gone is fine. Raises `SandboxError`."""


@dataclass(eq=False)
class _Leftover:
    remove: Remove
    what: str
    gone: threading.Event = field(default_factory=threading.Event)

    def attempt(self) -> str | None:
        """Try to remove it; return why that failed, or None."""
        try:
            self.remove(self.what)
        except SandboxError as error:
            return error.message
        self.gone.set()
        return None


class Removals:
    """Removes containers and volumes at once, or later in order, in a thread of its own."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._left: list[_Leftover] = []
        self._thread: threading.Thread | None = None
        self._closed = False

    def remove(self, remove: Remove, what: str) -> threading.Event:
        """Remove something; the event is set once it is gone."""
        leftover = _Leftover(remove, what)
        if (error := leftover.attempt()) is not None:
            log.warning("docker.slot.leftover", what=what, error=error)
            with self._changed:
                self._left.append(leftover)
                if self._thread is None and not self._closed:
                    self._thread = threading.Thread(
                        target=self._run, name="docker-removals", daemon=True
                    )
                    self._thread.start()
        return leftover.gone

    def close(self) -> None:
        """Try once more, then stop; `sweep` finds what is left."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        closed = False
        while not closed:
            with self._changed:
                closed = self._changed.wait_for(lambda: self._closed, _RETRY_S)
                left = list(self._left)
                if not left:
                    self._thread = None
                    return
            # In their order: containers come before the volumes that they hold.
            gone = [leftover for leftover in left if leftover.attempt() is None]
            with self._changed:
                self._left = [leftover for leftover in self._left if leftover not in gone]
