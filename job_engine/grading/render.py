"""Showing results on a terminal, without letting them control it.

Texts in results are hostile: `rich` gets them as plain text, never as markup, and control
characters are made visible.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from job_engine.grading.results import Outcome, PhaseSummary, Results, TestResult
from job_engine.grading.results.model import Status
from job_engine.sandbox.base import Verdict

_MAX_LINES: Final = 20
_MAX_WIDTH: Final = 500
_HIDDEN_KINDS: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_ANSI: Final = re.compile(r"\x1b\[[0-9;:]*m")
_STYLES: Final = {
    Outcome.GRADED: "bold green",
    Outcome.BUILD_FAILED: "bold red",
    Outcome.LIMIT: "bold red",
    Outcome.HARNESS_FAILED: "bold magenta",
}


def safe(text: str, *, lines: int = _MAX_LINES) -> str:
    """Return hostile text for a terminal, without escapes, unusual spaces and too many lines.

    With `lines=1` it is one line, in which line breaks are shown like any control character.
    """
    plain = _ANSI.sub("", text).expandtabs(4)
    if lines == 1:
        return "".join(map(_visible, plain[:_MAX_WIDTH]))
    kept = plain.splitlines()
    cut = [f"… {len(kept) - lines} more lines"] if len(kept) > lines else []
    return "\n".join("".join(map(_visible, line[:_MAX_WIDTH])) for line in [*kept[:lines], *cut])


def score_table(results: Results, *, staff: bool = True) -> RenderableType:
    """Return the results as text and tables: outcome, phases, tests and receipt.

    With `staff`, what is hidden from students is shown too.
    """
    parts: list[RenderableType] = [_phases(results.phases)]
    seen = [test for test in results.tests if staff or test.visibility == "visible"]
    if seen:
        parts.append(_tests(seen))
    if results.grader_message:
        parts.append(Text(safe(results.grader_message)))
    if results.output and (staff or results.visibility == "visible"):
        parts.append(Text(safe(results.output)))
    parts += [text for phase in results.phases if (text := _failure(phase, staff)) is not None]
    if staff:
        parts += [Text(f"note: {safe(note, lines=1)}", style="yellow") for note in results.notes]
    # A total would reveal the points of hidden tests.
    if staff or len(seen) == len(results.tests):
        parts.append(Text(safe(results.headline, lines=1), style=_STYLES[results.outcome]))
    parts.append(_receipt(results))
    return Group(*parts)


def _phases(phases: list[PhaseSummary]) -> Table:
    table = Table("phase", "result", box=None, pad_edge=False)
    table.add_column("time", justify="right")
    table.add_column("memory", justify="right")
    for phase in phases:
        memory = phase.peak_memory_bytes
        table.add_row(
            Text(safe(phase.name, lines=1)),
            Text(safe(phase.message, lines=1), style="green" if _ok(phase) else "red"),
            f"{phase.wall_time_s:.2f} s",
            f"{memory / 2**20:.1f} MiB" if memory else "",
        )
    return table


def _tests(tests: list[TestResult]) -> Table:
    table = Table("", "test", box=None, pad_edge=False)
    table.add_column("points", justify="right")
    table.add_column("output")
    for test in tests:
        mark, style = {
            Status.PASSED: ("✔", "green"),
            Status.FAILED: ("✘", "red"),
            None: ("·", "dim"),
        }[test.status]
        table.add_row(
            Text(mark, style=style),
            Text(safe(test.name, lines=1)),
            _points(test),
            Text(safe(_texts(test), lines=5), style="dim"),
        )
    return table


def _texts(test: TestResult) -> str:
    return "\n".join(part for part in (test.description, test.message, test.output) if part)


def _points(test: TestResult) -> str:
    if test.score is None:
        return ""
    return f"{test.score:g}" + ("" if test.max_score is None else f" / {test.max_score:g}")


def _failure(phase: PhaseSummary, staff: bool) -> Text | None:
    """Return a phase's output if the phase failed."""
    if _ok(phase) or not phase.output or not (staff or phase.visibility == "visible"):
        return None
    tail = "\n".join(phase.output.splitlines()[-_MAX_LINES:])
    return Text.assemble((f"{safe(phase.name, lines=1)} printed:\n", "bold"), safe(tail))


def _receipt(results: Results) -> Text:
    receipt = results.receipt
    forgeable = "; the score could be forged by the submission" if receipt.forgeable else ""
    return Text(
        safe(
            f"{receipt.assignment_name} {receipt.assignment[:19]}, submission "
            f"{receipt.submission[:19]}, job-engine {receipt.engine} on {receipt.sandbox}"
            f"{forgeable}",
            lines=1,
        ),
        style="dim",
    )


def _ok(phase: PhaseSummary) -> bool:
    return phase.verdict is Verdict.OK


def _visible(char: str) -> str:
    if unicodedata.category(char) in _HIDDEN_KINDS:
        return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}"
    return char
