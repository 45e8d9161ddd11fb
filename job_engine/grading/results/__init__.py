"""Results: one model that all formats are read into, and readers, one file a format.

A reader gets what the test phase handed on (`TestOutput`) and returns a `Reading`; it
raises `HarnessError` only when there is nothing that could be stored. Everything it
reads is hostile: numbers that are none, text that drives terminals, structures that nest
without end. A new format is a new file and a line in `formats.FORMATS`.
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
