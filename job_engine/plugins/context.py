"""The context of a run: how an action reads its job, reports, and is interrupted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from job_engine.model import Job

P_co = TypeVar("P_co", bound=BaseModel, covariant=True)
T = TypeVar("T")


class Context(Protocol[P_co]):
    """One run of one job, seen by its action.

    Every method but `should_stop` may raise an `Interruption` (a `BaseException`): do not catch
    it. Clean up in `finally`; what is reported afterwards is refused.
    """

    @property
    def job(self) -> Job:
        """The job as it was claimed."""

    @property
    def payload(self) -> P_co:
        """The job's payload, validated as the action's payload type."""

    @property
    def resumed(self) -> bool:
        """True when an earlier run was interrupted: continue, or clean up after it."""

    @property
    def scratch(self) -> Path:
        """A private directory, made on first use and removed after the run."""

    def progress(self, percent: int, message: str | None = None) -> None:
        """Report progress, 0 to 99, and what the job does; updates are sent in batches."""

    def log(self, text: str) -> None:
        """Add lines to the job's log."""

    def event(self, kind: str, data: Mapping[str, Any], *, staff: bool = False) -> None:
        """Add an event to the job's stream; `data` is JSON. Events are sent in batches.

        `kind` is a word of lower-case letters. With `staff`, callers who may only read the
        job do not get it. A run may emit half a million characters, and the stream keeps a
        few thousand events: what must not be lost belongs in the result.
        """

    def should_stop(self) -> bool:
        """Return whether the run is interrupted, for loops that end by themselves."""

    def sleep(self, seconds: float) -> None:
        """Wait `seconds`; an interruption ends the wait at once."""

    def need(self, kind: type[T]) -> T:
        """Return the executor's collaborator of this type, named in the action's `needs`.

        `job_engine.sandbox.Sandbox`, `job_engine.client.Api` and
        `job_engine.settings.ExecutorSettings` are such types.
        """

    def lend(self, close: Callable[[], None]) -> AbstractContextManager[None]:
        """While the context is entered, an interruption calls `close` from another thread."""
