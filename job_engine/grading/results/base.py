"""The interface of readers of results: their input and their output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from job_engine.errors import GradingError
from job_engine.grading.results.model import (
    Image,
    LeaderboardEntry,
    TestResult,
    TextFormat,
    Visibility,
)

MAX_DOCUMENT_BYTES: Final = 4 * 2**20
"""Bytes of a results file that are read, at most."""


class HarnessError(GradingError):
    """The tests gave no readable results: a fault of the assignment, not of the student."""


def lines_of(text: str) -> list[str]:
    """Return the lines of a text, split at line feeds only.

    `splitlines` also splits at form feeds, U+2028 and others, which may occur in a JSON string,
    or in student's output that a harness repeats.
    """
    return text.replace("\r\n", "\n").split("\n")


@dataclass(frozen=True, kw_only=True)
class TestOutput:
    """The output of the test phase, all of it hostile."""

    __test__ = False

    files: Mapping[str, bytes]
    """Regular files of the results directory, by relative path."""
    left_out: tuple[str, ...] = ()
    """Names of files that exceeded a limit, or were not regular files."""
    stdout: bytes = b""
    stderr: bytes = b""
    exit_code: int | None = 0
    path: str | None = None
    """The place of the results by the assignment; `-`: standard output."""
    full_score: float | None = None
    """Full score of the assignment, for formats without points."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Points of tests by name, for formats without points; 1 where none is given."""
    cut_short: bool = False
    """Whether a limit or a signal ended the run, so that its results may be incomplete."""

    def lines(self, default: str) -> list[str]:
        """Return the lines of a results file that is written line by line.

        An incomplete last line of a run that was cut short is left out. Raises `HarnessError` if
        there is no such file.
        """
        text = self.document(default)[:MAX_DOCUMENT_BYTES].decode("utf-8", "replace")
        if self.cut_short:
            text = text[: text.rfind("\n") + 1]
        return lines_of(text)

    def document(self, default: str) -> bytes:
        """Return the results file; raises `HarnessError` when there is none."""
        path = self.path or default
        if path == "-":
            return self.stdout
        if path in self.files:
            return self.files[path]
        if path in self.left_out:
            raise HarnessError(f"The results file {path} is too large, or no regular file.")
        raise HarnessError(
            f"The tests wrote no {path} into the results directory "
            f"(they ended with exit code {self.exit_code})."
        )


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The content of a results file, in the terms of the model."""

    score: float | None = None
    max_score: float | None = None
    output: str = ""
    output_format: TextFormat = TextFormat.SIMPLE_FORMAT
    visibility: Visibility = Visibility.VISIBLE
    stdout_visibility: Visibility = Visibility.HIDDEN
    execution_time: float | None = None
    tests: list[TestResult] = field(default_factory=list)
    leaderboard: list[LeaderboardEntry] = field(default_factory=list)
    extra_data: dict[str, Any] = field(default_factory=dict)
    scoreboard: list[Any] = field(default_factory=list)
    gradable: bool = True
    format_errors: list[str] = field(default_factory=list)
    grader_message: str = ""
    images: list[Image] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    total_known: bool = True
    """Whether `max_score` includes tests that did not finish."""


class Reader(Protocol):
    """Reads one format. Raises `HarnessError` when nothing can be stored."""

    def __call__(self, output: TestOutput, /) -> Reading:
        """Return the content of the results."""
