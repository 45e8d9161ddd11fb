"""Runs the tests of a GitHub Classroom repository on a submission; the engine's own harness.

It runs in the sandbox of the test phase, beside the student's code. Its settings are a JSON
file: `tests` and `protected` of the assignment, and the paths `bundle`, `submission` and
`results`.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from typing import Any, TextIO

from ..cases.files import clear, put  # noqa: TID252 - where it runs, no other path leads there
from .runner import Process, Runner, ended

Test = dict[str, Any]
TEXTS = ("name", "setup", "run", "input", "output")
"""Keys of a test that may have expressions of a workflow."""
MAX_SHOWN = 4_000
"""Characters of an output that are shown."""


def main(settings_file: str) -> int:
    """Run every test; write each as a line of the results as it is done."""
    with open(settings_file, encoding="utf-8") as file:
        settings = json.load(file)
    lay_out(settings["bundle"], settings["submission"], settings["protected"])
    tests = settings["tests"]
    # Without points anywhere, each test is worth one.
    default = 1.0 if not any(test["points"] for test in tests) else 0.0
    with (
        open(settings["results"], "w", encoding="utf-8") as results,
        tempfile.TemporaryDirectory() as scratch,
        Runner(scratch) as runner,
    ):
        write_line(results, {"max_score": sum(test["points"] or default for test in tests)})
        for test in tests:
            scored = {**test, "points": test["points"] or default}
            for line in run_test(scored, runner):
                write_line(results, line)
    return 0


def lay_out(bundle: str, submission: str, protected: list[str]) -> None:
    """Complete the submission with the course's files; those that are protected replace its own."""
    for name in protected:
        if os.path.isdir(os.path.join(bundle, name)):
            # With what it has more: pytest obeys a `conftest.py` beside the tests.
            clear(os.path.join(submission, name))
    for directory, folders, files in os.walk(bundle):
        below = os.path.relpath(directory, bundle)
        folders[:] = [name for name in folders if (below, name) != (".", ".git")]
        links = [name for name in folders if os.path.islink(os.path.join(directory, name))]
        for file in (*files, *links):
            path = os.path.normpath(os.path.join(below, file))
            replaces = any(path == name or path.startswith(name + os.sep) for name in protected)
            if replaces or not os.path.lexists(os.path.join(submission, path)):
                put(os.path.join(directory, file), submission, path)


def write_line(results: TextIO, value: object) -> None:
    """Write one line, whole."""
    results.write(json.dumps(value) + "\n")
    results.flush()


def run_test(test: Test, runner: Runner) -> list[Test]:
    """Run one test; return its results, for pytest one for each case."""
    started = time.monotonic()
    seconds = test["timeout"] * 60
    if test["new_job"]:
        runner.new_job()
    runner.define(test["env"])
    runner.steps(test["before"])
    test = {**test, **{key: runner.expand(test[key]) for key in TEXTS}}
    if runner.broken and not test["always"]:
        return [result(test, runner.broken, "", started)]
    # A server that the setup starts is there for the test.
    left: list[Process] = []
    try:
        if test["setup"]:
            code, printed, errors = runner.shell(test["setup"], "", seconds, left)
            if code != 0:
                ill = f"the setup {ended(code, seconds)}"
                return [result(test, ill, runner.note() + printed + errors, started)]
        if test["pytest"]:
            return run_pytest(test, seconds, runner)
        code, printed, errors = runner.shell(test["run"], test["input"], seconds, left)
    finally:
        runner.end(left)
    problem = ended(code, seconds) if code != 0 else compare(test, printed)
    return [result(test, problem, runner.note() + printed + errors, started)]


def compare(test: Test, printed: str) -> str | None:
    """Return a problem of the output, or None; nothing is compared without input and output."""
    if not test["output"] and not test["input"]:
        return None
    expected, actual = normal(test["output"]), normal(printed)
    kind = test["comparison"]
    if kind == "regex":
        try:
            right = re.search(test["output"], actual) is not None
        except re.error as error:
            return f"the expected pattern cannot be read: {error}"
    else:
        right = actual == expected if kind == "exact" else expected in actual
    words = {"exact": "exactly", "included": "something with", "regex": "something that matches"}
    return None if right else f"it must print {words[kind]}:\n{test['output'].strip()}\nIt printed:"


def normal(text: str) -> str:
    """Return a text with plain line ends, and without white space around it."""
    return text.replace("\r\n", "\n").strip()


def result(test: Test, problem: str | None, printed: str, started: float) -> Test:
    """Return one line of the results."""
    shown = printed if len(printed) <= MAX_SHOWN else "…" + printed[-MAX_SHOWN:]
    return {
        "name": test["name"],
        "score": 0 if problem else test["points"],
        "max_score": test["points"],
        "status": "failed" if problem else "passed",
        "output": f"{problem}\n{shown}".strip() if problem else shown.strip(),
        "output_format": "ansi",
        "extra_data": {"wall_time_s": round(time.monotonic() - started, 3)},
    }


def run_pytest(test: Test, seconds: float, runner: Runner) -> list[Test]:
    """Run all `*_test.py` of the repository; each of their tests is worth the same.

    Without any, pytest looks for tests itself.
    """
    started = time.monotonic()
    files = [
        os.path.join(directory, name)
        for directory, _, names in os.walk(".")
        for name in sorted(names)
        if name.endswith("_test.py")
    ]
    left: list[Process] = []
    with tempfile.TemporaryDirectory() as scratch:
        report = os.path.join(scratch, "report.xml")
        words = ["python3", "-m", "pytest", "-s", "--tb=short", f"--junitxml={report}", *files]
        code, printed, errors = runner.shell(shlex.join(words), "", seconds, left)
        runner.end(left)
        cases = read_report(report)
    if code is None or not cases:
        problem = ended(code, seconds) if code is None else "there is no *_test.py with a test"
        return [result(test, problem, runner.note() + printed + errors, started)]
    points = test["points"] / len(cases)
    return [
        result({"name": f"{test['name']}: {name}", "points": points}, problem, "", started)
        for name, problem in cases
    ]


def read_report(path: str) -> list[tuple[str, str | None]]:
    """Return name and problem of each test in a JUnit file; none when it cannot be read."""
    try:
        root = ET.parse(path).getroot()
    except (OSError, ET.ParseError):
        return []
    tests = []
    for case in root.iter("testcase"):
        wrong = [part for part in case if part.tag in ("failure", "error")]
        problem = "\n".join(part.text or part.get("message") or "" for part in wrong) or None
        tests.append((case.get("name", "test"), problem if wrong else None))
    return tests


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
