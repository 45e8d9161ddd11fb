"""Saying what a run was like: a report in Markdown, and where it failed, what led there."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
from collections import Counter, defaultdict
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
from tests.faults.bed.spans import minus, total

MOST_EXPLAINED: Final = 5
MOST_LINES: Final = 60
"""Of one log, that are shown of one job."""
INSTANT_S: Final = 0.1
"""A fault shorter than this was nothing that lasts."""

MOST_FOUND: Final = 50
"""Violations that a report lists."""

_HEAD: Final = """\
# A run of the fault test-bed

Written by `scripts/soak`: an API, two distributors and three executors of eight threads each, on
three ZooKeeper servers, under faults that are drawn from a seed and overlap. The rules are those
of `tests/faults/bed/checker.py`, which judges by a trace that executions write themselves (some
from inside a sandbox), by what the submitter was told, and by the journal of the faults; it
believes nothing that the engine says of itself.
"""


def report(
    plan: Plan, evidence: Evidence, violations: Sequence[Violation], took_s: float, commit: str
) -> str:
    """Return the report, in Markdown. `took_s` is how long all of it took."""
    case = Case(evidence)
    parts = [
        _HEAD,
        _table(("", ""), _about(plan, violations, took_s, commit)),
        "## What happened\n",
        _table(("", ""), [*_spans(evidence, took_s), *_work(case)]),
        "## The faults\n",
        _table(("fault", "times", "lasted"), _faults(evidence)),
        "## What was checked\n",
        _table(("what must hold", "in full", "broken"), _rules(violations)),
        "## What was found\n",
        _found(violations),
    ]
    return "\n".join(parts)


Rows = Sequence[Sequence[str]]


def _table(head: Sequence[str], rows: Rows) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _about(plan: Plan, violations: Sequence[Violation], took_s: float, commit: str) -> Rows:
    command = f"scripts/soak --seed {plan.seed} --jobs {plan.jobs} --faults {plan.faults}"
    return [
        ("Verdict", "clean" if not violations else f"**{len(violations)} violations**"),
        ("Commit", commit),
        ("Command", f"`{command} --gap {plan.gap_s:g}`"),
        ("Date", f"{datetime.now(UTC):%Y-%m-%d}"),
        ("Duration", f"{took_s / 60:.0f} min"),
        ("Machine", f"{platform.system()} on {platform.machine()}, {_hardware()}"),
        (
            "Versions",
            f"job-engine {__version__}, Python {platform.python_version()}, "
            f"kazoo {kazoo.__version__}, SQLite {sqlite3.sqlite_version}",
        ),
    ]


def commit() -> str:
    """Return which code is there, as git says; asked by root, of a checkout that is another's."""
    here = Path(__file__).parent
    git = ("git", "-c", "safe.directory=*", "-C", str(here))
    try:
        head = subprocess.check_output([*git, "rev-parse", "--short=12", "HEAD"], text=True)
        changed = subprocess.check_output([*git, "status", "--porcelain", "-uno"], text=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"`{head.strip()}`" + (", and changes that were not committed" if changed else "")


def _spans(evidence: Evidence, took_s: float) -> Rows:
    """When what happened; and how thick the faults lay."""
    began_at = min((start.at for start in evidence.starts), default=0.0)
    spans = sorted((fault.began_at, fault.ended_at) for fault in evidence.faults)
    if not spans:
        return []
    first, last = spans[0][0], max(ended_at for _, ended_at in spans)
    troubled_s = (last - first) - total(minus([(first, last)], spans))
    most = max(sum(a <= at <= b for a, b in spans) for at, _ in spans)
    return [
        ("Before the first fault", f"{(first - began_at) / 60:.1f} min"),
        ("From the first fault to the last", f"{(last - first) / 60:.1f} min"),
        ("After the last fault", f"{max(0.0, took_s - (last - began_at)) / 60:.1f} min"),
        ("At least one fault at a time", f"for {troubled_s / 60:.1f} min"),
        ("Faults at the same time", f"{most} at most"),
    ]


def _work(case: Case) -> Rows:
    evidence = case.evidence
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
    boxed = sum(s.action == "boxed" for s in accepted)
    again = len(runs) - len(evidence.executions)
    longest = f", the longest for {max(overlaps):.2f} s" if overlaps else ""
    ahead = max((count for _, count, _ in waits), default=0)
    return [
        ("Jobs accepted", f"{len(accepted)}, {boxed} of them to run in a sandbox"),
        ("Jobs in the end", _listed(states)),
        ("Submissions that were never answered", f"{len(evidence.submissions) - len(accepted)}"),
        ("Jobs gone with a restored store", f"{missing}"),
        ("Executions", f"{len(runs)}, {again} of them again after a fault"),
        ("Two executions of a job at once", f"{len(overlaps)} times{longest}"),
        ("Jobs seen final during the run", f"{len(evidence.observations)} times"),
        ("Less urgent jobs that went before one", f"{ahead} at most, over {len(waits)} in calm"),
        ("Executors with Docker's sandboxes", f"{len(evidence.in_docker)}, the rest bubblewrap's"),
        ("Starts of processes", f"{len(evidence.starts)}"),
        (
            "Processes that ended by themselves",
            _listed(Counter(f"with {death.code}" for death in evidence.deaths)) or "none",
        ),
    ]


def _faults(evidence: Evidence) -> Rows:
    lasted: dict[str, list[float]] = defaultdict(list)
    for fault in evidence.faults:
        lasted[fault.kind].append(fault.ended_at - fault.began_at)
    rows = [(kind, f"{len(lasted[kind])}", _range(lasted[kind])) for kind in KINDS]
    return [*rows, ("all", f"{len(evidence.faults)}", "")]


def _range(seconds: Sequence[float]) -> str:
    shortest, longest = (f"{pick(seconds, default=0.0):.1f}" for pick in (min, max))
    if float(longest) < INSTANT_S:
        return ""
    return f"{longest} s" if shortest == longest else f"{shortest} to {longest} s"


def _rules(violations: Sequence[Violation]) -> Rows:
    broken = Counter(violation.rule for violation in violations)
    rows = []
    for rule in RULES:
        name = rule.__name__.replace("_", " ")
        described = " ".join((rule.__doc__ or "").partition("\n\n")[0].split())
        rows.append((name, described, f"**{broken[name]} times**" if broken[name] else "never"))
    return rows


def _found(violations: Sequence[Violation]) -> str:
    if not violations:
        return "Nothing that breaks a rule.\n"
    lines = [f"- {violation}" for violation in violations[:MOST_FOUND]]
    if more := len(violations) - len(lines):
        lines.append(f"- and {more} more")
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
        matching = [line for line in log.read_text(errors="replace").splitlines() if job in line]
        lines += [f"{log.stem}: {line}" for line in matching[:MOST_LINES]]
    return lines
