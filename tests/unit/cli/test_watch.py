"""What `--wait` and `watch` print where no terminal shows it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from job_engine.cli import watch
from job_engine.cli.watch import EVERYTHING, STEPS, Watcher
from job_engine.client import Api, Seen
from job_engine.errors import ApiUnavailableError

RUN = [
    Seen("job", {"state": "RUNNING", "progress": 10, "status-message": "build: running"}, None),
    Seen("phase", {"phase": "build", "state": "started"}, "1.0"),
    Seen("phase", {"phase": "build", "state": "ended", "wall_time_s": 0.1}, "1.1"),
    Seen("log", {"line": "build: done in 0.1 s"}, "1.2"),
    Seen("phase", {"phase": "test", "state": "started"}, "1.3"),
    Seen("output", {"phase": "test", "text": "hello"}, "1.4"),
    Seen("test", {"name": "adds", "status": "passed", "score": 1, "max_score": 2}, "1.5"),
    Seen("end", {"state": "SUCCESS"}, "end"),
]


def shown(kinds: frozenset[str], *, terminal: bool = False) -> list[str]:
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, color_system=None)
    watcher = Watcher(console, kinds, clock=lambda: 0.0)
    for seen in RUN:
        watcher.show(seen)
    return [line.partition("s  ")[2] for line in output.getvalue().splitlines()]


def test_waiting_shows_the_phases() -> None:
    assert shown(STEPS) == ["build: running", "build: done in 0.1 s", "test: running"]


def test_watching_shows_tests_and_output_as_well() -> None:
    assert shown(EVERYTHING) == [*shown(STEPS), "hello", "✔ adds  1 / 2"]


def test_on_a_terminal_the_present_step_is_beside_the_spinner() -> None:
    assert shown(STEPS, terminal=True) == ["build: done in 0.1 s"]
    watcher = Watcher(Console(file=io.StringIO()), clock=lambda: 0.0)
    watcher.show(Seen("job", {"state": "QUEUED"}, None))
    assert watcher.__rich__().plain == "waiting for an executor  0%  0 s"
    watcher.show(RUN[0])
    assert watcher.__rich__().plain == "build: running  10%  0 s"


def test_an_engine_that_stays_away_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "PATIENCE_S", 0.0)
    api = Api("http://127.0.0.1:9", retry_s=0)  # where nobody listens
    with pytest.raises(ApiUnavailableError, match="job show job/1"):
        Watcher(Console(file=io.StringIO())).follow(api, "job/1")
    api.close()
