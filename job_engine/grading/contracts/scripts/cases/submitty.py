"""Runs the tests of a Submitty configuration on a submission; the engine's own harness.

It runs in the sandbox of the tests, beside the student's code. Its settings are a JSON file:
`tests` and `time_s` of the assignment, and the paths `bundle` and `results`.
"""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from typing import Any, TextIO

from .checkers import BrokenError
from .files import clear, copy_tree, put_all
from .submitty_checks import judge, text_of, validate

Test = dict[str, Any]
_MAX_SHOWN = 2_000
_INPUTS = ("test_input", "provided_code")
_COMPILATION_S = 60.0
"""Least that a compilation may take."""


def main(settings_file: str) -> int:
    """Run every test, and write it as a line of the results; return 3 if they are at fault."""
    with open(settings_file, encoding="utf-8") as file:
        settings = json.load(file)
    config = settings["bundle"]
    if os.path.isdir(os.path.join(config, "config")):
        config = os.path.join(config, "config")
    work = tempfile.mkdtemp()
    base = os.path.join(work, "submission")
    try:
        copy_tree(".", base)
        drop_made(base, settings)
        put_all(os.path.join(config, "provided_code"), base)
        stand_ins(work)
        with open(settings["results"], "w", encoding="utf-8") as results:
            total = sum(t["points"] for t in settings["tests"] if not t["extra_credit"])
            write_line(results, {"planned": len(settings["tests"]), "max_score": total})
            for number, test in enumerate(settings["tests"], 1):
                place = os.path.join(work, f"test{number:02}")
                write_line(results, run_test(test, number, base, place, config, settings))
    except BrokenError as error:
        os.unlink(settings["results"])
        sys.stderr.write(f"The assignment is broken: {error}\n")
        return 3
    finally:
        # Programs may be writing there still.
        clear(work)
    return 0


def drop_made(base: str, settings: dict[str, Any]) -> None:
    """Remove what the submission has in the place of what has to be compiled.

    In Submitty only files that are sources get to a compilation.
    """
    for test in settings["tests"]:
        names = test["executable_name"] if test["type"] == "Compilation" else []
        for path in (path for name in names for path in glob.glob(os.path.join(base, name))):
            name = os.path.relpath(path, base)
            sources = (pattern.removeprefix("**/") for pattern in settings["sources"])
            if os.path.isdir(path) or not any(fnmatch.fnmatch(name, s) for s in sources):
                clear(path)


def stand_ins(work: str) -> None:
    """Have `python` where there is `python3` only, as the machines of Submitty do."""
    if shutil.which("python") is None:
        directory = os.path.join(work, "bin")
        os.mkdir(directory)
        with open(os.path.join(directory, "python"), "w", encoding="utf-8") as file:
            file.write('#!/bin/sh\nexec python3 "$@"\n')
        os.chmod(file.name, 0o755)
        os.environ["PATH"] = os.environ.get("PATH", os.defpath) + os.pathsep + directory


def write_line(results: TextIO, value: object) -> None:
    """Write one line, whole."""
    results.write(json.dumps(value) + "\n")
    results.flush()


def run_test(
    test: Test, number: int, base: str, place: str, config: str, settings: dict[str, Any]
) -> dict[str, Any]:
    """Run one test; return its result."""
    if test["type"] != "Execution":
        place = base
    try:
        if test["type"] == "Execution":
            lay_out(base, place, config)
        printed = run_all(test, place, settings["time_s"])
        part, problems = score(test, number, place, config, settings["time_s"])
    except OSError as error:
        # What is in the way was put there by the submission, or by a program of its.
        printed, part, problems = "", 0.0, [f"cannot be run: {error.strerror or error}"]
    points = float(math.floor(part * test["points"] + 1e-6))
    return {
        "name": f"Test {number} {test['title']}".strip(),
        "score": points,
        "max_score": 0 if test["extra_credit"] else test["points"],
        "status": "passed" if part >= 1 else "failed",
        "output": "\n".join([*problems, *([printed] if problems else [])])[:_MAX_SHOWN],
        "visibility": "hidden" if test["hidden"] else "visible",
    }


def lay_out(base: str, place: str, config: str) -> None:
    """Make the directory of one test, with what compilations have made."""
    copy_tree(base, place)
    for name in _INPUTS:
        put_all(os.path.join(config, name), place)


def run_all(test: Test, place: str, seconds: float) -> str:
    """Run the commands of a test; return what they printed as errors."""
    numbered = len(test["command"]) > 1
    if test["type"] == "Compilation":
        seconds = max(seconds, _COMPILATION_S)
    return "".join(
        run(command, place, f"_{index}" if numbered else "", seconds)
        for index, command in enumerate(test["command"])
    )


def score(
    test: Test, number: int, place: str, config: str, seconds: float
) -> tuple[float, list[str]]:
    """Return the part of its points that a test gives, and what is wrong."""
    lost, problems = 0.0, []
    for check in checks_of(test):
        if check["method"] == "custom_validator":
            grade, problem = validate(check, f"test{number:02}", place, config, seconds)
        else:
            grade, problem = judge(check, place, os.path.join(config, "test_output"))
        lost += check["deduction"] * (1 - grade)
        if problem:
            problems.append(check["failure_message"] or problem)
    return min(1.0, max(0.0, 1 - lost)), problems


def checks_of(test: Test) -> list[dict[str, Any]]:
    """Return the checks of a test; files that must be there are one."""
    needed = {"Compilation": test["executable_name"], "FileCheck": test["actual_file"]}
    files = needed.get(test["type"]) or []
    if not files:
        return list(test["validation"])
    there = {
        "method": "fileExists",
        "actual_file": files,
        "deduction": 1.0,
        "one_of": False,
        "failure_message": "",
    }
    return [there, *test["validation"]]


def run(command: str, place: str, suffix: str, seconds: float) -> str:
    """Run a command; keep its output in files, and return what it printed as an error."""
    out, err = (os.path.join(place, f"{name}{suffix}.txt") for name in ("STDOUT", "STDERR"))
    program = next(iter(command.split()), "")
    clear(out)
    clear(err)
    with open(out, "wb") as stdout, open(err, "wb") as stderr:
        if "/" in program and not os.path.exists(os.path.join(place, program)):
            # A shell would say so in the name of the program, where errors are expected of it.
            return f"{command}: there is no {program}"
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            cwd=place,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    told = text_of(err)
    if code is None:
        return f"{told}\n{command}: no end within {seconds:g} s"
    return told if code == 0 else f"{told}\n{command}: ended with exit code {code}"
