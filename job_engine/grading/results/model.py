"""The one model of results; its JSON is the `output` of a `grade` job.

Names are those of Gradescope's `results.json`, with additions of the engine: the outcome, the
verdict and its fault, the phases and the receipt.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from job_engine.model import Fault, FinalVerdict
from job_engine.sandbox.base import Verdict

Order = Literal["asc", "desc"]


class Visibility(StrEnum):
    """When a student sees something. Staff always see everything."""

    VISIBLE = "visible"
    HIDDEN = "hidden"
    AFTER_DUE_DATE = "after_due_date"
    AFTER_PUBLISHED = "after_published"


class TextFormat(StrEnum):
    """The format of a text."""

    TEXT = "text"
    HTML = "html"
    SIMPLE_FORMAT = "simple_format"
    MD = "md"
    ANSI = "ansi"


class Status(StrEnum):
    """Whether a test passed."""

    PASSED = "passed"
    FAILED = "failed"


class Outcome(StrEnum):
    """How far the run got."""

    GRADED = "graded"
    """The tests ran to their end and gave results."""
    BUILD_FAILED = "build-failed"
    """The submission does not build; the score is 0."""
    LIMIT = "limit"
    """The tests were ended by a limit or a signal; tests that had finished before count."""
    HARNESS_FAILED = "harness-failed"
    """The tests gave no readable results, so there is no score: a fault of the assignment."""


class Stored(BaseModel):
    """Base class of stored values: immutable; undeclared keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Image(Stored):
    """A picture that a grader shows, as a data URL."""

    url: str
    label: str = "Figure"


class TestResult(Stored):
    """One test. Without `max_score` it is worth no points."""

    __test__ = False

    name: str
    score: float | None = None
    max_score: float | None = None
    status: Status | None = None
    """None: informational only."""
    output: str = ""
    output_format: TextFormat = TextFormat.TEXT
    name_format: TextFormat = TextFormat.TEXT
    visibility: Visibility = Visibility.VISIBLE
    number: str = ""
    tags: list[str] = []
    extra_data: dict[str, Any] = {}
    description: str = ""
    message: str = ""
    """Shown above the output; PrairieLearn's."""
    images: list[Image] = []


class LeaderboardEntry(Stored):
    """One column of a leaderboard."""

    name: str
    value: float | str
    order: Order = "desc"


class PhaseSummary(Stored):
    """The summary of one phase."""

    name: str
    verdict: Verdict
    message: str
    """The verdict in words for a person."""
    exit_code: int | None
    signal: int | None
    wall_time_s: float
    cpu_time_s: float
    peak_memory_bytes: int
    """0 if the kernel does not report it."""
    output: str = ""
    """The end of its output."""
    visibility: Visibility = Visibility.HIDDEN


class Rerun(Stored):
    """The first run of tests that were too slow by less than a tenth, and so ran again."""

    wall_time_s: float
    """Times of the tests in the first run."""
    cpu_time_s: float


class Receipt(Stored):
    """The exact inputs of a grading, so that a score can be explained years later."""

    assignment: str
    """Digest of the bundle, `sha256:<hex>`."""
    assignment_name: str
    submission: str
    """Digest of an archive or of the files' clean tar; for git, the commit."""
    repository: str | None = None
    engine: str
    """Version of the job engine."""
    sandbox: str
    """The backend."""
    forgeable: bool
    """Whether the submission could have written its own score; staff should know."""
    # Older receipts lack what follows.
    tests: str = ""
    """Digest of the tests as the test phase sees them, `sha256:<hex>`."""
    images: dict[str, str] = {}
    """The image of each phase: `<kind>:sha256:<hex>`."""
    flavour: str = ""
    limits: dict[str, dict[str, int | float]] = {}
    """The limits of each phase: seconds, bytes, cores, counts."""
    runtime: str = ""
    """Name and version of what made the sandbox."""
    kernel: str = ""
    host: str = ""
    executor: str = ""
    started: str = ""
    ended: str = ""
    attempts: int = 1
    """Number of this run of the job, from 1; interrupted runs are not counted."""
    interruptions: int = 0
    rerun: Rerun | None = None
    """Set where these are the results of a second run."""


class Results(Stored):
    """The results of one submission."""

    outcome: Outcome
    verdict: FinalVerdict | None = None
    """None: graded by a release without verdicts."""
    fault: Fault | None = None
    message: str
    """One line for a person."""
    score: float | None
    max_score: float | None = None
    output: str = ""
    output_format: TextFormat = TextFormat.SIMPLE_FORMAT
    visibility: Visibility = Visibility.VISIBLE
    stdout_visibility: Visibility = Visibility.HIDDEN
    execution_time: float | None = None
    """Seconds, as reported by the harness, or the wall time of the test phase."""
    tests: list[TestResult] = []
    leaderboard: list[LeaderboardEntry] = []
    scoreboard: list[Any] = []
    """Columns of Autolab's scoreboard."""
    due: datetime | None = None
    """When tests that are hidden until the due date are shown; None: never."""
    withheld: bool = False
    """Whether tests, and with them the score, are hidden from the caller."""
    gradable: bool = True
    """False: there is no score, and no attempt was used."""
    format_errors: list[str] = []
    """Why it is not gradable, for the student."""
    grader_message: str = ""
    """The grader's message on the whole submission; may contain ANSI colours."""
    images: list[Image] = []
    extra_data: dict[str, Any] = {}
    phases: list[PhaseSummary] = []
    notes: list[str] = []
    """Values of the harness's results that were corrected or left out; for staff."""
    receipt: Receipt

    @property
    def headline(self) -> str:
        """The verdict with the message, in one line."""
        return self.message if self.verdict is None else f"{self.verdict}: {self.message}"

    @property
    def lost_nothing(self) -> bool:
        """Whether it has full score, and no test failed.

        If the maximum is unknown, a score of 0 is not full, unless tests without points passed.
        """
        if self.outcome is not Outcome.GRADED or self.score is None:
            return False
        if any(test.status is Status.FAILED for test in self.tests):
            return False
        if self.max_score is None:
            return self.score > 0 or any(test.status is Status.PASSED for test in self.tests)
        return self.score >= self.max_score
