"""Autolab's autograders (Tango): the output is feedback, and its last line may have the scores.

That line is a JSON object: `{"scores": {"<problem>": <number>}, "scoreboard": [ … ]}`. Without it
there is feedback and no score; the exit code has no meaning.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any, Final

from job_engine.grading.results.base import HarnessError, Reading, TestOutput
from job_engine.grading.results.hostile import Fields, Notes, clean_text, decode, read_object
from job_engine.grading.results.model import Status, TestResult, TextFormat

_MAX_PROBLEMS: Final = 500
_MAX_LINE: Final = 65_536
_MAX_COLUMNS: Final = 100
_NAME: Final = 512
_BARE_KEY: Final = re.compile(rb"(?<![A-Za-z0-9])([A-Za-z0-9]++):")
"""From the start of a word and without a way back: else a long word takes the square of its
length, with all threads of the executor waiting for it."""


def read_autolab(output: TestOutput) -> Reading:
    """Read the last line of standard output; problems that it does not name score 0."""
    notes = Notes()
    value = _last_line(output.stdout, notes)
    scores = value.get("scores")
    if not isinstance(scores, dict):
        notes.add("the last line has no scores: feedback only")
        return Reading(
            output=decode(output.stdout),
            output_format=TextFormat.TEXT,
            max_score=sum(output.weights.values()) or None,
            notes=notes.all(),
        )
    tests = _tests(scores, output, notes)
    whole = bool(output.weights) and all(test.max_score is not None for test in tests)
    return Reading(
        score=sum(test.score or 0.0 for test in tests),
        max_score=sum(test.max_score or 0.0 for test in tests) if whole else None,
        output=decode(output.stdout),
        output_format=TextFormat.TEXT,
        tests=tests,
        scoreboard=_scoreboard(value, notes),
        notes=notes.all(),
    )


def _last_line(stdout: bytes, notes: Notes) -> dict[str, Any]:
    lines = stdout.rstrip().rsplit(b"\n", 1)
    line = lines[-1].strip()
    if not line.startswith(b"{") or len(line) > _MAX_LINE:
        return {}
    # Keys need no quotes there: older labs print `{scores: {Correctness: 10}}`.
    for text in (line, _BARE_KEY.sub(rb'"\1":', line)):
        with contextlib.suppress(HarnessError):
            return read_object(text, notes, lenient=True)
    return {}


def _tests(scores: dict[str, Any], output: TestOutput, notes: Notes) -> list[TestResult]:
    fields = Fields(scores, notes, "scores.")
    others = [name for name in scores if name not in output.weights]
    names = [*output.weights, *others]
    if output.weights and others:
        # There it is an error that takes all scores away.
        notes.add(f"scores: {', '.join(others)}: no problem of the lab has that name")
    if len(names) > _MAX_PROBLEMS:
        notes.add(f"scores: only the first {_MAX_PROBLEMS} kept")
    return [
        _test(name, fields.number(name), output.weights.get(name), index)
        for index, name in enumerate(names[:_MAX_PROBLEMS], start=1)
    ]


def _test(name: str, score: float | None, most: float | None, index: int) -> TestResult:
    value = score or 0.0
    status = None
    if most is not None:
        status = Status.PASSED if value >= most else Status.FAILED
    return TestResult(
        name=clean_text(name, _NAME),
        score=value,
        max_score=most,
        status=status,
        number=str(index),
    )


def _scoreboard(value: dict[str, Any], notes: Notes) -> list[Any]:
    items = Fields(value, notes, "").items("scoreboard", _MAX_COLUMNS)
    kept = Fields({"columns": {"list": items}}, notes, "scoreboard.").data("columns", _MAX_LINE)
    columns: list[Any] = kept.get("list", [])
    return columns
