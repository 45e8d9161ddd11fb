"""The same assignment in two forms: one that a submission can forge, and one that it cannot."""

from __future__ import annotations

import pytest

from job_engine.grading.results import Outcome
from job_engine.model import FinalVerdict
from job_engine.sandbox.base import Verdict
from tests.integration.grading.conftest import Desk
from tests.integration.grading.test_samples import SUBMISSIONS, archive, statuses

FORGED = """
import json, os
tests = [{"name": "all", "score": 10, "max_score": 10}]
try:
    with open("/mnt/results/results.json", "w") as file:
        json.dump({"tests": tests}, file)
except OSError:
    pass
os._exit(0)
"""
EQUAL = """
class Anything(int):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    __hash__ = None
    def __index__(self): return 0

class Stack:
    def push(self, item): pass
    def pop(self): return Anything()
    peek = pop
    def __len__(self): return Anything()
"""


def test_the_split_form_scores_as_the_other_does(desk: Desk) -> None:
    good = desk.grade("python-pytest-split", archive(desk, "python-pytest-good"))
    assert (good.score, good.max_score, good.verdict) == (10, 10, FinalVerdict.ACCEPTED), good
    assert [phase.name for phase in good.phases] == ["build", "test", "program"]
    assert not good.receipt.forgeable
    within = desk.grade("python-pytest", archive(desk, "python-pytest-good"))
    assert [test.name for test in within.tests] == [test.name for test in good.tests]
    text = (SUBMISSIONS / "python-pytest-partial" / "stack.py").read_text()
    partial = desk.grade("python-pytest-split", {"files": {"stack.py": text}})
    assert (partial.score, partial.max_score) == (7, 10)
    assert statuses(partial)["an empty stack raises IndexError"] == "failed"


@pytest.mark.parametrize(("forgery", "worth"), [(FORGED, 0), (EQUAL, 2)])
def test_a_submission_forges_the_one_and_not_the_other(
    desk: Desk, forgery: str, worth: int
) -> None:
    split = desk.grade("python-pytest-split", {"files": {"stack.py": forgery}})
    assert (split.score, split.max_score) == (worth, 10), split.tests
    assert split.outcome is Outcome.GRADED
    assert not split.receipt.forgeable
    within = desk.grade("python-pytest", {"files": {"stack.py": forgery}})
    assert (within.score or 0) > worth, within
    assert within.receipt.forgeable


def test_a_program_that_meets_a_limit_is_told_so(desk: Desk) -> None:
    results = desk.grade("python-pytest-split", {"files": {"stack.py": "x = [0]\nwhile 1: x += x"}})
    assert (results.score, results.outcome) == (0, Outcome.GRADED)
    assert results.verdict is FinalVerdict.MEMORY_LIMIT
    assert [phase.verdict for phase in results.phases] == [
        Verdict.OK,
        Verdict.OK,
        Verdict.MEMORY,
    ]
    assert all("longer" not in test.output for test in results.tests)
