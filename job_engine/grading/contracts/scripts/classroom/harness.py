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
from collections.abc import Iterator
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
    protected = [os.path.normpath(name) for name in protected]
    for name in protected:
        if os.path.isdir(os.path.join(bundle, name)):
            # With what it has more: pytest obeys a `conftest.py` beside the tests.
            clear(os.path.join(submission, name))
    found = list(course_files(os.path.realpath(bundle), protected))
    # First those that are protected: they replace links of the submission on their way, behind
    # which it may have other files.
    for path, source in sorted(found, key=lambda pair: not within(pair[0], protected)):
        if within(path, protected) or not os.path.lexists(os.path.join(submission, path)):
            put(source, submission, path)


def course_files(root: str, protected: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the paths of the course's files, and what to put there: a file, or a link.

    For a link that is protected and leads to what is not, they are the course's files behind it:
    where the link leads to in the submission is the student's. `root` has no link on its way.
    """
    waiting: list[tuple[str, str, tuple[str, ...]]] = [(".", root, (root,))]
    while waiting:
        at, directory, way = waiting.pop()
        for entry in os.scandir(directory):
            path = os.path.normpath(os.path.join(at, entry.name))
            source = entry.path
            # What is behind a link is copied, and relative links of it lead elsewhere there.
            moved = source != os.path.join(root, path)
            if entry.is_symlink() and (moved or not may_stay(path, os.readlink(source), protected)):
                source = os.path.realpath(source)
                inside = source.startswith(root + os.sep) and os.path.exists(source)
                # In a circle, the copy would have no end.
                if not inside or source in way:
                    continue
            if os.path.islink(source) or not os.path.isdir(source):
                yield path, source
            elif path != ".git":
                waiting.append((path, source, (*way, source)))


def may_stay(path: str, target: str, protected: list[str]) -> bool:
    """Whether a link of the course's may be put as one, with all that is protected safe.

    It is neither on the way to that, nor does it lead from there to what is not.
    """
    if within(path, protected):
        return within(os.path.normpath(os.path.join(os.path.dirname(path), target)), protected)
    return not any(within(name, [path]) for name in protected)


def within(path: str, places: list[str]) -> bool:
    """Whether a path is one of these places, or below one."""
    return any(path == place or path.startswith(place + os.sep) for place in places)


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
