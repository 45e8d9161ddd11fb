"""The simplest format: exit code 0 is full score, any other 0; the output is feedback."""

from __future__ import annotations

from job_engine.grading.results.base import Reading, TestOutput
from job_engine.grading.results.hostile import decode
from job_engine.grading.results.model import TextFormat


def read_stdout(output: TestOutput) -> Reading:
    """Read the exit code; full score is 1 unless the assignment sets another one."""
    full = 1.0 if output.full_score is None else output.full_score
    return Reading(
        score=full if output.exit_code == 0 else 0.0,
        max_score=full,
        output=decode(output.stdout),
        output_format=TextFormat.TEXT,
    )
