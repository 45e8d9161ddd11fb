"""Reading what the `trace` action wrote: executions, as they really happened."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

ACTIONS_DIR = Path(__file__).parent / "actions"


@dataclass
class Execution:
    """One run of one job: when its trace began, and when it was last heard of."""

    job: str
    run: str
    started_at: float
    last_at: float
    ended: bool = False
    pid: int = 0
    """Process of the executor that ran it."""


def read_trace(file: Path) -> dict[str, list[Execution]]:
    """Return the executions by job."""
    runs: dict[str, Execution] = {}
    for text in file.read_text().splitlines():
        line = json.loads(text)
        run = runs.setdefault(
            line["job"] + line["run"],
            Execution(line["job"], line["run"], line["at"], line["at"], pid=line["pid"]),
        )
        run.last_at = line["at"]
        run.ended = run.ended or line["event"] == "end"
    found = defaultdict(list)
    for run in runs.values():
        found[run.job].append(run)
    return dict(found)


def longest_overlap_s(executions: list[Execution]) -> float:
    """Seconds for which two executions of a job were both alive, at most."""
    return max(
        (
            min(a.last_at, b.last_at) - max(a.started_at, b.started_at)
            for a, b in combinations(executions, 2)
        ),
        default=0.0,
    )
