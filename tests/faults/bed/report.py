"""Saying what a run was like: a report in Markdown, and where it failed, what led there."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Final

import kazoo

from job_engine import __version__
from tests.faults.bed.checker import RULES, Case, Violation, overlap, overtaken
from tests.faults.bed.evidence import Evidence
from tests.faults.bed.kinds import KINDS
from tests.faults.bed.run import Plan
from tests.faults.bed.spans import total

MOST_EXPLAINED: Final = 5
MOST_LINES: Final = 60
"""Of one log, that are shown of one job."""

_HEAD: Final = (
    "# A run of the fault test-bed",
    "",
    "What `scripts/soak` writes: an API, two distributors and three executors of eight threads "
    "on three ZooKeeper servers, under faults that are drawn from the seed and overlap. The "
    "rules are those of `tests/faults/bed/checker.py`, which reads a trace that executions "
    "write themselves, and believes nothing that the engine says of itself.",
    "",
)


def report(plan: Plan, evidence: Evidence, violations: Sequence[Violation], took_s: float) -> str:
    """Return the report."""
    case = Case(evidence)
    runs = [run for runs in evidence.executions.values() for run in runs]
    overlaps = [
        total(common)
        for job in evidence.executions
        for pair in combinations(case.runs(job), 2)
        if (common := overlap(case, *pair))
    ]
    waits = list(overtaken(case))
    accepted = [s for s in evidence.submissions if s.job is not None]
    missing = sum(s.job not in evidence.first for s in accepted)
    states = Counter(document.state for document in evidence.first.values())
    again = len(runs) - len(evidence.executions)
    rows = [
        ("Verdict", "clean" if not violations else f"**{len(violations)} violations**"),
        ("Seed", f"{plan.seed}"),
        ("Date", f"{datetime.now(UTC):%Y-%m-%d}"),
        ("Duration", f"{took_s / 60:.0f} min"),
        ("Machine", f"{platform.system()} on {platform.machine()}, {_hardware()}"),
        (
            "Versions",
            f"job-engine {__version__}, Python {platform.python_version()}, "
            f"kazoo {kazoo.__version__}, SQLite {sqlite3.sqlite_version}",
        ),
        ("Jobs accepted", f"{len(accepted)}, in the end {_listed(states)}"),
        ("Replies to a submission that never came", f"{len(evidence.submissions) - len(accepted)}"),
        ("Jobs gone with a restored store", f"{missing}"),
        ("Executions", f"{len(runs)}, {again} of them again after a fault"),
        ("Faults", f"{len(evidence.faults)}, of {len(KINDS)} kinds"),
        ("Starts of processes", f"{len(evidence.starts)}"),
        ("Times that two executions of a job ran at once", f"{len(overlaps)}"),
        ("The longest of those", f"{max(overlaps, default=0.0):.2f} s"),
        ("Jobs seen final during the run", f"{len(evidence.observations)} times"),
        (
            "Less urgent jobs that went before one in calm",
            f"{max((count for _, count, _ in waits), default=0)} at most, over {len(waits)} jobs",
        ),
    ]
    kinds = Counter(fault.kind for fault in evidence.faults)
    lines = [*_HEAD, "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""]
    lines += ["| fault | times |", "|---|---|"]
    lines += [f"| {kind} | {kinds[kind]} |" for kind in KINDS]
    lines += ["", "| rule | broken |", "|---|---|"]
    broken = Counter(violation.rule for violation in violations)
    for name in (rule.__name__.replace("_", " ") for rule in RULES):
        lines.append(f"| {name} | {broken[name] or 'never'} |")
    return "\n".join([*lines, ""])


def _hardware() -> str:
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory_gb:.0f} GB"


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def explain(violations: Sequence[Violation], evidence: Evidence, directory: Path) -> str:
    """Return all violations, and of the first ones the trace, the faults and the logs."""
    lines = [str(violation) for violation in violations]
    for job in list(dict.fromkeys(v.job for v in violations if v.job))[:MOST_EXPLAINED]:
        lines += ["", f"--- {job}", *_story(job, evidence, directory)]
    return "\n".join(["", *lines, f"Everything is in {directory}", ""])


def _story(job: str, evidence: Evidence, directory: Path) -> list[str]:
    case = Case(evidence)
    runs = case.runs(job)
    lines = [f"submission {case.by_job.get(job)}", f"document {evidence.first.get(job)}"]
    zero = min((start.at for start in evidence.starts), default=0.0)
    for run in runs:
        span = f"{run.started_at - zero:.2f} to {run.last_at - zero:.2f} s"
        lines.append(f"run {run.run} on {case.executor(run)}, {span}, ended: {run.ended}")
    if runs:
        first, last = runs[0].started_at - 15, max(run.last_at for run in runs) + 5
        lines += [
            f"fault {f.kind} {f.target} {f.detail}, {f.began_at - zero:.2f} to "
            f"{f.ended_at - zero:.2f} s"
            for f in evidence.faults
            if f.began_at < last and f.ended_at > first
        ]
    for log in sorted(directory.glob("*.log")):
        told = [line for line in log.read_text(errors="replace").splitlines() if job in line]
        lines += [f"{log.stem}: {line}" for line in told[:MOST_LINES]]
    return lines
