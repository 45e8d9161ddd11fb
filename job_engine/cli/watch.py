"""Following a job to its end, by its stream: its log, its phases, its current step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from job_engine.cli import text
from job_engine.cli.jobs import fetch
from job_engine.client import Api, Seen, follow_job
from job_engine.errors import ApiUnavailableError
from job_engine.grading.render import safe
from job_engine.model import JobState

PATIENCE_S: Final = 60.0
"""Seconds to wait for an API that restarts; jobs go on in the meantime."""
EVERYTHING: Final = frozenset({"log", "phase", "test", "output"})
STEPS: Final = frozenset({"log", "phase"})
"""What is shown of a job whose tests are shown at its end."""
_MARKS: Final = {"passed": ("✔", "green"), "failed": ("✘", "red")}


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
    """Shows a job while it runs: a line for each item, and on a terminal its current step.

    Args:
        console: the terminal.
        kinds: the kinds of stream items that are shown.
    """

    def __init__(
        self,
        console: Console,
        kinds: frozenset[str] = STEPS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._kinds = kinds
        self._clock = clock
        self._began = clock()
        self._step = ""

    def follow(self, api: Api, job: str, after: str | None = None) -> dict[str, Any]:
        """Return the job's document once it is final; begin `after` an offset of its stream.

        Raises `RefusedError` for who may not read it, and `ApiUnavailableError` when the API
        is away for longer than `PATIENCE_S`.
        """
        try:
            with self._status():
                for seen in follow_job(api, job, after, patience_s=PATIENCE_S):
                    self.show(seen)
            return fetch(api, job)
        except ApiUnavailableError as error:
            raise ApiUnavailableError(
                f"The engine stopped answering. {job} may well go on: "
                f"`job-engine job show {job}` will tell."
            ) from error

    def show(self, seen: Seen) -> None:
        """Show one item of the stream."""
        if seen.kind == "job":
            self._step = f"{step_of(seen.data)}  {seen.data.get('progress', 0)}%"
        elif seen.kind in self._kinds and (line := self._describe(seen)) is not None:
            elapsed = f"{self._clock() - self._began:7.1f} s  "
            self._console.print(Text.assemble((elapsed, "dim"), line), soft_wrap=True)

    def __rich__(self) -> Text:
        """Render the present step; called anew for each frame of the spinner."""
        return Text(f"{self._step}  {self._clock() - self._began:.0f} s", style="cyan")

    def _status(self) -> AbstractContextManager[object]:
        return self._console.status(self, spinner="dots")

    def _describe(self, seen: Seen) -> Text | None:
        data = seen.data
        match seen.kind:
            case "log":
                return Text(text.clean(str(data.get("line", ""))))
            case "test":
                mark, style = _MARKS.get(str(data.get("status")), ("·", "dim"))
                name = safe(str(data.get("name", "")), lines=1)
                return Text.assemble((mark, style), f" {name}{_points(data)}")
            case "output":
                return Text(safe(str(data.get("text", "")), lines=200), style="dim")
            case "phase" if data.get("state") == "started" and not self._console.is_terminal:
                return Text(f"{safe(str(data.get('phase', '')), lines=1)}: running")
            case _:
                return None  # The step or the log says it, and the end what came of the job.


def _points(data: dict[str, Any]) -> str:
    score, most = data.get("score"), data.get("max_score")
    if not isinstance(score, (int, float)):
        return ""
    return f"  {score:g}" + (f" / {most:g}" if isinstance(most, (int, float)) else "")


def step_of(document: dict[str, Any]) -> str:
    """Return what the job does now, in a few words."""
    state = JobState(document["state"])
    waits = "waiting for an executor" if state is JobState.QUEUED else state.lower()
    return text.one_line(document.get("status-message", "")) or waits
