"""A small assignment, and submissions to it, for tests that grade for real."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from job_engine.cli.assignments import upload
from job_engine.client import Api

ASSIGNMENT: Final = """
name: sum
flavour: small
phases:
  build: sh -n solution.sh
  test: sh /mnt/tests/run.sh
results: {format: stdout}
"""

HARNESS: Final = """
[ "$(sh solution.sh 2 3)" = 5 ]
"""

RIGHT: Final = "echo $(($1 + $2))"
WRONG: Final = "echo $(($1 - $2))"
SLOW: Final = "sleep 1; echo $(($1 + $2))"


def add_assignment(api: Api, directory: Path, text: str = ASSIGNMENT) -> str:
    """Upload the assignment, and return its digest."""
    (directory / "tests").mkdir(parents=True)
    (directory / "assignment.yaml").write_text(text)
    (directory / "tests" / "run.sh").write_text(HARNESS)
    assignment, digest = upload(api, directory)
    api.add("assignment", {"name": assignment.name, "digest": digest})
    return digest


def submission(assignment: str, program: str) -> dict[str, object]:
    """The payload of a `grade` job with one file in it."""
    return {"assignment": assignment, "submission": {"files": {"solution.sh": program}}}
