"""A fair verdict on the real sandboxes: what finished counts, and who is at fault."""

from __future__ import annotations

import uuid
from pathlib import Path

from job_engine.grading.results import Outcome, Results
from job_engine.model import Fault, FinalVerdict
from tests.integration.grading.conftest import Desk, Follower

TWO = """\
emit() { printf '{"name": "%s", "score": 1, "max_score": 1}\\n' "$1" >> /mnt/results/tests.jsonl; }
emit one; emit two
"""


def publish(desk: Desk, script: str, limits: str = "", results: str = "{format: stream}") -> str:
    """Publish an assignment whose tests are this shell script."""
    name = f"fair-{uuid.uuid4().hex[:8]}"
    directory = desk.directory / name
    (directory / "tests").mkdir(parents=True)
    (directory / "tests" / "run.sh").write_text(script)
    (directory / "assignment.yaml").write_text(
        f"name: {name}\n"
        f"phases: {{test: {{command: sh /mnt/tests/run.sh, limits: {{{limits}}}}}}}\n"
        f"results: {results}\n"
    )
    return desk.blobs.add_assignment(Path(directory))


def grade(desk: Desk, assignment: str, follower: Follower | None = None) -> Results:
    return desk.grade(assignment, {"files": {"a": "x"}}, follower)


def test_tests_that_finished_before_a_limit_count(desk: Desk) -> None:
    assignment = publish(desk, f"{TWO}sleep 60", "wall_time_s: 1", "{format: stream, max_score: 5}")
    results = grade(desk, assignment)
    assert (results.outcome, results.verdict) == (Outcome.LIMIT, FinalVerdict.TIME_LIMIT)
    assert (results.score, results.max_score) == (2, 5)
    assert [test.name for test in results.tests] == ["one", "two"]
    assert results.fault is Fault.PROGRAM


def test_tests_that_finished_before_a_crash_count(desk: Desk) -> None:
    results = grade(desk, publish(desk, f"{TWO}kill -SEGV $$"))
    assert results.verdict is FinalVerdict.RUNTIME_ERROR
    assert (results.score, len(results.tests)) == (2, 2)
