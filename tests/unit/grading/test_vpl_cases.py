"""Moodle VPL: reading its cases, and comparing outputs as it does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from job_engine.errors import AssignmentError
from job_engine.grading.contracts.scripts.cases import vpl
from tests.support.vpl import ADDS, bundled


def test_an_activity_of_cases_alone_is_plain_cases(tmp_path: Path) -> None:
    assignment, files = bundled(tmp_path / "sum", {"vpl_evaluate.cases": ADDS, "readme.md": "x"})
    assert (assignment.contract, assignment.forgeable) == ("cases", False)
    assert files["tests/vpl-cases/001.in"] == " 1\n2\n"
    assert json.loads(files["tests/vpl-cases/001.out"]) == {
        "outputs": [" 3", ' "three"\n'],
        "message": "",
    }
    assert json.loads(files["tests/vpl-cases/002.out"])["message"] == "think again"
    cases = assignment.cases
    assert cases is not None
    assert [(rule.title, rule.points) for rule in cases.cases.values()] == [
        ("Test 1: adds", 30),
        ("Test 2: is told", 70),
    ]
    assert cases.deduct_from == 100


def test_the_rest_of_the_format(tmp_path: Path) -> None:
    text = (
        'case = a\r\nProgram arguments = -n "two words"\r\nExpected exit code = 3\r\n'
        "input end = END\r\ninput = x = y\r\noutput = no tag\r\nEND\r\n"
        "Grade reduction = 2.5\r\ncase = other\r\nvariation = even\r\noutput = 1\r\n"
    )
    assignment, files = bundled(tmp_path / "all", {"vpl_evaluate.cases": text})
    cases = assignment.cases
    assert cases is not None
    assert list(cases.cases) == ["001"]
    assert (cases.cases["001"].exit_code, cases.cases["001"].points) == (3, 2.5)
    assert cases.deduct_from == 10
    assert files["tests/vpl-cases/001.args"] == "-n\ntwo words"
    assert files["tests/vpl-cases/001.in"] == " x = y\noutput = no tag\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has no case"),
        ("what is this", "line 1: what is 'what is this'"),
        ("case = a\ninput = 1", "case 1 has neither an output"),
        ("case = a\nExpected exit code = x", "line 2: the exit code"),
    ],
)
def test_invalid_cases_are_refused_with_the_reason(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(AssignmentError, match=why):
        bundled(tmp_path / "bad", {"vpl_evaluate.cases": text})


@pytest.mark.parametrize(
    ("wanted", "printed", "right"),
    [
        ("3", "The sum is 3\n", True),
        ("3", "The sum is 3.\n", False),
        ("3", "1 + 2 = 3", False),
        ("* 3", "1 + 2 = 3", True),
        ("3.0", "3.0002", True),
        ("3.0", "3.1", False),
        ("3", "3.0", False),
        ("10000", "10000.5", False),
        ("3", "+3", True),
        ("3.0", "3", True),
        ("hello, World", "I say: HELLO\nworld!", True),
        ("hello world", "hello world again", False),
        ('"Hello"', "Hello\n", True),
        ('"Hello"', "hello\n", False),
        ('*"lo"', "Hello\n", True),
        ("/^b$/m", "a\nb\n", True),
        ("/^B$/i", "b", True),
        ("/^b$/", "ab", False),
    ],
)
def test_how_outputs_are_compared(wanted: str, printed: str, right: bool) -> None:
    assert vpl.matcher_of(wanted)(printed) is right
