"""Results: one model for all formats, and a reader for each format.

A reader gets the output of the test phase (`TestOutput`) and returns a `Reading`. It raises
`HarnessError` only if there is nothing that could be stored. All input is hostile: invalid
numbers, terminal escapes, unlimited nesting. A new format is a new file and a line in
`formats.FORMATS`.
"""

from job_engine.grading.results.base import HarnessError, Reading, TestOutput
from job_engine.grading.results.fit import MAX_OUTPUT_BYTES, to_json
from job_engine.grading.results.formats import FORMATS, read_results
from job_engine.grading.results.model import (
    LeaderboardEntry,
    Outcome,
    PhaseSummary,
    Receipt,
    Results,
    Status,
    TestResult,
    Visibility,
)
from job_engine.grading.results.student_view import StudentView, for_students, view_for_students

__all__ = [
    "FORMATS",
    "MAX_OUTPUT_BYTES",
    "HarnessError",
    "LeaderboardEntry",
    "Outcome",
    "PhaseSummary",
    "Reading",
    "Receipt",
    "Results",
    "Status",
    "StudentView",
    "TestOutput",
    "TestResult",
    "Visibility",
    "for_students",
    "read_results",
    "to_json",
    "view_for_students",
]
