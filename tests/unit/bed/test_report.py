"""The report of a run: that it says what broke, and that every table of it is one."""

from __future__ import annotations

from itertools import pairwise

from tests.faults.bed.checker import RULES, check
from tests.faults.bed.kinds import KINDS
from tests.faults.bed.progress import remaining_s
from tests.faults.bed.report import MOST_FOUND, report
from tests.faults.bed.run import Plan
from tests.unit.bed.test_checker import CLEAN, CUT, JOB, run

PLAN = Plan(seed=7, jobs=1, faults=1, gap_s=4.0)


def test_a_clean_run() -> None:
    text = report(PLAN, run(faults=[CUT]), [], 120.0, "`c0ffee`")
    assert "| Verdict | clean |" in text
    assert "| Commit | `c0ffee` |" in text
    assert "--seed 7 --jobs 1 --faults 1 --gap 4" in text
    assert "| cut-zookeeper | 1 | 5.5 s |" in text
    assert "Nothing that breaks a rule." in text
    for name in [*KINDS, *(rule.__name__.replace("_", " ") for rule in RULES)]:
        assert f"| {name} |" in text


def test_failures_are_listed_and_counted() -> None:
    evidence = run(leftovers=[f"node {n}" for n in range(MOST_FOUND + 2)])
    text = report(PLAN, evidence, check(evidence), 120.0, "`c0ffee`")
    assert f"| Verdict | **{MOST_FOUND + 2} violations** |" in text
    assert f"| **{MOST_FOUND + 2} times** |" in text
    assert "- nothing is left: node 0\n" in text
    assert text.endswith("- and 2 more\n")


def test_every_row_is_as_wide_as_its_table() -> None:
    lines = report(PLAN, CLEAN, [], 1.0, "").splitlines()
    for one, other in pairwise(lines):
        if one.startswith("|") and other.startswith("|"):
            assert one.count("|") == other.count("|"), other


def test_nothing_is_in_it_of_a_job_that_nothing_happened_to() -> None:
    assert JOB not in report(PLAN, CLEAN, [], 1.0, "")


def test_the_rest_takes_what_the_pace_so_far_says() -> None:
    assert remaining_s(25, 100, 10.0) == 30.0
    assert remaining_s(0, 100, 10.0) == 0.0
