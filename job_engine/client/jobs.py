"""Jobs for clients: values to create, wait for and read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from nuvla.api.api import NuvlaError

from job_engine.errors import JobEngineError
from job_engine.model import JobState

FIRST_LOOK_S: Final = 0.1
LAST_LOOK_S: Final = 2.0
"""Longest interval, in seconds, between two reads while waiting; intervals grow by half."""
_SLOWER: Final = 1.5


class JobFailedError(JobEngineError):
    """The job ended in another state than SUCCESS."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"{job.id} is {job.state}: {job.message or 'it does not say why'}")
        self.job = job


class JobApi(Protocol):
    """The part of the client that a job uses."""

    def get(self, resource_id: str, **params: Any) -> Any:
        """Read a resource."""

    def operate(self, resource_id: str, name: str, *, key: str | None = None) -> dict[str, Any]:
        """Run an operation."""

    def pause(self, seconds: float) -> None:
        """Wait, unless the client is closed."""


@dataclass(frozen=True)
class Job:
    """A job as it was last read; immutable, so methods return a new one."""

    id: str
    document: Mapping[str, Any]
    """The CIMI document; right after creation, only the attributes that were sent."""
    api: JobApi = field(repr=False, compare=False)

    @property
    def action(self) -> str:
        """Name of its action."""
        return str(self.document["action"])

    @property
    def state(self) -> JobState:
        """Its state."""
        return JobState(self.document["state"])

    @property
    def is_final(self) -> bool:
        """Whether its state is final."""
        return self.state.is_final

    @property
    def progress(self) -> int:
        """Progress, 0 to 100."""
        return int(self.document.get("progress", 0))

    @property
    def message(self) -> str | None:
        """The status message: its current step, or why it ended."""
        return self.document.get("status-message")

    @property
    def return_code(self) -> int | None:
        """Return code of its action; 0: success."""
        return self.document.get("return-code")

    @property
    def output(self) -> str | None:
        """Output of its action, as text."""
        return self.document.get("output")

    def result(self) -> Any:
        """Return the output, parsed as JSON. Raises `ValueError` if it is not JSON."""
        return json.loads(self.output or "null")

    def refresh(self) -> Job:
        """Read it again, and return the new value."""
        return Job(self.id, self.api.get(self.id).data, self.api)

    def wait(
        self, timeout_s: float | None = None, on_change: Callable[[Job], None] | None = None
    ) -> Job:
        """Wait until the job is final, and return it.

        `on_change` is called whenever its state, progress or message has changed. Raises
        `TimeoutError` after `timeout_s` seconds, which changes nothing about the job.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        look_s, seen = FIRST_LOOK_S, self
        while not (now := seen.refresh()).is_final:
            _notify(on_change, seen, now)
            seen = now
            left_s = LAST_LOOK_S if deadline is None else deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"{self.id} is still {now.state} after {timeout_s} s.")
            self.api.pause(min(look_s, left_s))
            look_s = min(look_s * _SLOWER, LAST_LOOK_S)
        _notify(on_change, seen, now)
        return now

    def check(self) -> Job:
        """Return the job itself. Raises `JobFailedError` if it ended as FAILED or CANCELED."""
        if self.is_final and self.state is not JobState.SUCCESS:
            raise JobFailedError(self)
        return self

    def cancel(self) -> Job:
        """Cancel it unless it is final already; return its new value."""
        try:
            return Job(self.id, self.api.operate(self.id, "cancel"), self.api)
        except NuvlaError:
            # The API answers 403 for a final job, too.
            if (now := self.refresh()).is_final:
                return now
            raise

    def resubmit(self, key: str | None = None) -> Job:
        """Send it again; `key` as for `Api.submit`."""
        made = self.api.operate(self.id, "resubmit", key=key)["resource-id"]
        return Job(str(made), self.api.get(str(made)).data, self.api)

    def log(self, after: int = 0, *, follow: bool = False) -> Iterator[str]:
        """Yield the lines of its log after line number `after`.

        With `follow`, continue with new lines until the job is final.
        """
        look_s = FIRST_LOOK_S
        while True:
            # Read before the log: if the job is final now, its log is complete.
            over = not follow or self.refresh().is_final
            found = False
            while lines := self.api.get(f"{self.id}/log", after=after).data["lines"]:
                found = True
                after += len(lines)
                yield from lines
            if over:
                return
            look_s = FIRST_LOOK_S if found else min(look_s * _SLOWER, LAST_LOOK_S)
            self.api.pause(look_s)


def _notify(on_change: Callable[[Job], None] | None, before: Job, after: Job) -> None:
    shown = ("state", "progress", "status-message")
    if on_change is not None and any(
        before.document.get(name) != after.document.get(name) for name in shown
    ):
        on_change(after)
