"""Following a job to its end: its log as it grows, and its current step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import requests
from nuvla.api.api import NuvlaError
from rich.console import Console
from rich.status import Status
from rich.text import Text

from job_engine.cli import text
from job_engine.cli.jobs import fetch
from job_engine.client import Api
from job_engine.errors import ApiUnavailableError
from job_engine.model import FINAL_STATES, JobState

POLL_S: Final = 0.2
PATIENCE_S: Final = 60.0
"""Seconds to wait for an API that restarts; jobs go on in the meantime."""

T = TypeVar("T")


def log_lines(api: Api, job: str, after: int) -> Iterator[tuple[int, str]]:
    """Yield a job's log from after a line number on, page by page, each line with its number."""
    while True:
        page = api.get(f"{job}/log", after=after).data
        for line in page["lines"]:
            after += 1
            yield after, text.clean(line)
        if not page["lines"]:
            return


class Watcher:
    """Shows one job live: its log line by line, and on a terminal its present step."""

    def __init__(
        self,
        api: Api,
        console: Console,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._api = api
        self._console = console
        self._clock = clock
        self._sleep = sleep
        self._started = clock()
        self._step = ""
        self._over: set[str] = set()
        """Phases of whose end the log has told."""
        self._after = 0

    def follow(self, job: str) -> dict[str, Any]:
        """Return the job's document once it is final.

        Raises `ApiUnavailableError` when the API is away for longer than `PATIENCE_S`.
        """
        with self._console.status("", spinner="dots") as status:
            while True:
                # Read before the log: a job that is final here has its whole log there.
                document = self._patiently(lambda: fetch(self._api, job), job)
                self._patiently(lambda: self._show_log(job), job)
                self._show_step(document, status)
                if JobState(document["state"]) in FINAL_STATES:
                    return document
                self._sleep(POLL_S)

    def _show_step(self, document: dict[str, Any], status: Status) -> None:
        step = step_of(document)
        begun = step.endswith("running") and step.partition(":")[0] not in self._over
        if not self._console.is_terminal and step != self._step and begun:
            self._line(step)
        self._step = step
        percent, elapsed = document.get("progress", 0), self._clock() - self._started
        status.update(Text(f"{step}  {percent}%  {elapsed:.0f} s", style="cyan"))

    def _show_log(self, job: str) -> None:
        for number, line in log_lines(self._api, job, self._after):
            self._after = number
            self._over.add(line.partition(":")[0])
            self._line(line)

    def _line(self, line: str) -> None:
        elapsed = f"{self._clock() - self._started:7.1f} s  "
        self._console.print(Text.assemble((elapsed, "dim"), line), soft_wrap=True)

    def _patiently(self, read: Callable[[], T], job: str) -> T:
        deadline = self._clock() + PATIENCE_S
        while True:
            try:
                return read()
            except (requests.RequestException, NuvlaError) as error:
                if not _may_pass(error):
                    raise
                if self._clock() > deadline:
                    raise ApiUnavailableError(
                        f"The engine stopped answering. {job} may well go on: "
                        f"`job-engine job show {job}` will tell."
                    ) from error
                self._sleep(1.0)


def step_of(document: dict[str, Any]) -> str:
    """Return what the job does now, in a few words."""
    state = JobState(document["state"])
    message = text.one_line(document.get("status-message", ""))
    if state is JobState.QUEUED:
        return message or "waiting for an executor"
    return message or state.lower()


def _may_pass(error: requests.RequestException | NuvlaError) -> bool:
    """Whether asking again may help: the engine is away, and has not refused."""
    if isinstance(error, NuvlaError):
        return error.response is not None and error.response.status_code >= 500
    return True
