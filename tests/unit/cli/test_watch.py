"""What `--wait` prints where no terminal shows it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, cast

from rich.console import Console

from job_engine.cli.watch import Watcher
from job_engine.client import Api

JOB = "job/1"


@dataclass
class Answer:
    """What a client returns."""

    data: dict[str, Any]


class Scripted:
    """A job whose log has more lines by each look at the job itself."""

    def __init__(self, *looks: tuple[str, str, list[str]]) -> None:
        self.looks = list(looks)
        self.lines: list[str] = []

    def get(self, resource: str, after: int = 0) -> Answer:
        """See `Api`."""
        if resource == JOB:
            state, message, lines = self.looks.pop(0)
            self.lines += lines
            return Answer({"state": state, "status-message": message})
        return Answer({"lines": self.lines[after:]})


def test_no_phase_is_said_to_run_once_its_end_was_told() -> None:
    api = Scripted(
        ("RUNNING", "build: running", []),
        ("RUNNING", "test: running", ["build: done in 0.1 s", "test: ended after 0.3 s"]),
        ("SUCCESS", "accepted", []),
    )
    output = io.StringIO()
    watcher = Watcher(
        cast(Api, api), Console(file=output), clock=lambda: 0.0, sleep=lambda _s: None
    )
    watcher.follow(JOB)
    lines = [line.partition("s  ")[2] for line in output.getvalue().splitlines()]
    assert lines == ["build: running", "build: done in 0.1 s", "test: ended after 0.3 s"]
