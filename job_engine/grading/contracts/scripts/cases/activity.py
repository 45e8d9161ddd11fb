"""Runs a Moodle VPL activity on one submission: its scripts, beside the student's code.

Its settings are those of the cases, with `bundle`, `build`, `grade_min`, `grade_max` and
`max_time_s` in addition, and without `cases` where `vpl_evaluate.sh` does it all.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from typing import Any

from . import harness

Settings = dict[str, Any]
_GRADE = re.compile(r"^Grade :=>>(.*)$", re.MULTILINE)
_COMMENT = "Comment :=>>"
_MAX_OUTPUT = 1 << 20
_MAX_SHOWN = 8_000
_OWN = ("vpl-cases",)
"""What the engine has put beside the activity's files."""
_EXECUTION = "vpl_execution"


def main(settings_file: str) -> int:
    """Grade by the scripts of the activity; return 3 when they are at fault."""
    with open(settings_file, encoding="utf-8") as file:
        settings = json.load(file)
    students = sorted(name for name in os.listdir(".") if os.path.isfile(name))
    shutil.copytree(
        settings["bundle"], ".", dirs_exist_ok=True, ignore=lambda at, _: _left_out(at, settings)
    )
    write_environment(settings, students)
    for name in os.listdir("."):
        if name.endswith(".sh") and os.path.isfile(name):
            os.chmod(name, 0o755)
    if "cases" in settings:
        printed = build(settings)
        if not os.path.exists(settings["run"]):
            return write_result(settings, 0.0, f"The program cannot be run.\n{printed}")
        return harness.main(settings_file)
    printed = call(["./vpl_evaluate.sh"], settings["max_time_s"])
    if not os.path.exists(_EXECUTION):
        return write_result(settings, 0.0, f"The program cannot be evaluated.\n{printed}")
    os.chmod(_EXECUTION, 0o755)
    printed += call([f"./{_EXECUTION}"], settings["max_time_s"])
    grades = _GRADE.findall(printed)
    try:
        grade = float(grades[-1])
    except (IndexError, ValueError):
        sys.stderr.write(f"The evaluation printed no grade (Grade :=>>).\n{printed[-2000:]}\n")
        return 3
    return write_result(settings, grade, comments(printed))


def build(settings: Settings) -> str:
    """Make the program that is run on the cases; return what was printed."""
    if os.path.exists("vpl_run.sh"):
        printed = call(["./vpl_run.sh"], settings["max_time_s"])
        made = _EXECUTION
    else:
        printed = call(["sh", settings["build"]], settings["max_time_s"])
        made = ".job-engine-run"
        if os.path.exists(made):
            with open(made, encoding="utf-8") as file:
                text = file.read()
            with open(made, "w", encoding="utf-8") as file:
                file.write(f"#!/bin/sh\n{text}")
    if os.path.exists(made):
        os.chmod(made, 0o755)
        os.rename(made, "vpl_test")
    return printed


def _left_out(directory: str, settings: Settings) -> tuple[str, ...]:
    return _OWN if directory == settings["bundle"] else ()


def write_environment(settings: Settings, students: list[str]) -> None:
    """Write the files that scripts of activities expect: variables, and common functions."""
    values = {
        "VPL_LANG": "C.UTF-8",
        "VPL_MAXTIME": f"{settings['max_time_s']:g}",
        "VPL_GRADEMIN": f"{settings['grade_min']:g}",
        "VPL_GRADEMAX": f"{settings['grade_max']:g}",
        "VPL_COMPILATIONFAILED": "The compilation or preparation of execution has failed",
        "VPL_VARIATION": "",
        "VPL_SUBFILES": "\n".join(students),
        **{f"VPL_SUBFILE{number}": name for number, name in enumerate(students)},
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
    with open("vpl_environment.sh", "w", encoding="utf-8") as file:
        file.write("\n".join(["#!/bin/bash", *lines]) + "\n")
    if not os.path.exists("common_script.sh"):
        shutil.copy(os.path.join(os.path.dirname(__file__), "vpl_common.sh"), "common_script.sh")


def call(words: list[str], seconds: float) -> str:
    """Run a script of the activity; return what it printed."""
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
        )
        printed, late = done.stdout, ""
    except subprocess.TimeoutExpired as error:
        printed, late = error.stdout or b"", f"\nIt took longer than {seconds:g} s.\n"
    except OSError as error:
        return f"{words[0]} cannot be run: {error}\n"
    text = printed[:_MAX_OUTPUT].decode("utf-8", "replace") + late
    # For staff, who see what the tests print.
    sys.stderr.write(text)
    return text


def comments(printed: str) -> str:
    """Return what the evaluation tells the student: its comments, and blocks of them."""
    told, inside = [], False
    for line in printed.splitlines():
        if line.startswith("<|--"):
            inside = True
        elif line.startswith("--|>"):
            inside = False
        elif inside:
            told.append(line)
        elif line.startswith(_COMMENT):
            told.append(line[len(_COMMENT) :].strip())
    return "\n".join(told)


def write_result(settings: Settings, grade: float, output: str) -> int:
    """Write the grade as the one test that there is; return the exit code of a graded run."""
    grade = min(max(grade, settings["grade_min"]), settings["grade_max"])
    test = {
        "name": "Evaluation",
        "score": grade,
        "max_score": settings["grade_max"],
        "output": output[:_MAX_SHOWN],
    }
    with open(settings["results"], "w", encoding="utf-8") as results:
        harness.write_line(results, test)
    return 0
