"""Runs a Moodle VPL activity on one submission: its scripts, beside the student's code.

Its settings are those of the cases, with `bundle`, `build`, `grade_min`, `grade_max` and
`max_time_s` in addition, and without `cases` where `vpl_evaluate.sh` does it all.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from typing import IO

from . import harness
from .activity_files import (
    BUILT,
    EVALUATE,
    EXECUTION,
    PROGRAM,
    RUN,
    Settings,
    is_text,
    lay_out,
    name_shell,
)
from .checkers import BrokenError
from .files import clear
from .runs import Run

_GRADE = re.compile(r"^Grade :=>>[ \t]*([-+]?(?:\d+\.?\d*|\.\d+))\s*$", re.MULTILINE | re.ASCII)
_COMMENT = "Comment :=>>"
_MAX_OUTPUT = 1 << 20
_MAX_SHOWN = 8_000
_LEFT_BEHIND_S = 1.0


def main(settings_file: str) -> int:
    """Grade by the scripts of the activity; return 3 when they are at fault."""
    with open(settings_file, encoding="utf-8") as file:
        settings = json.load(file)
    lay_out(settings)
    try:
        return evaluate(settings) if "cases" not in settings else run_cases(settings, settings_file)
    except BrokenError as error:
        sys.stderr.write(f"The activity is broken: {error}\n")
        return 3


def run_cases(settings: Settings, settings_file: str) -> int:
    """Make the program, and run it on the cases."""
    printed = build(settings)
    if not os.path.isfile(settings["run"]):
        return write_result(settings, 0.0, f"The program cannot be run.\n{printed}")
    return harness.main(settings_file)


def evaluate(settings: Settings) -> int:
    """Have the activity make and run an evaluation of its own; its last grade printed counts.

    What is run is the activity's, or made by its script: `lay_out` has left no other.
    """
    seconds = settings["max_time_s"]
    printed, _ = call([f"./{EVALUATE}"], seconds)
    if not os.path.isfile(EXECUTION):
        return write_result(settings, 0.0, f"The program cannot be evaluated.\n{printed}")
    os.chmod(EXECUTION, 0o755)
    if is_text(EXECUTION):
        name_shell(EXECUTION)
    told, cut = call([f"./{EXECUTION}"], seconds)
    printed += told
    if cut is not None:
        # By the program, perhaps, whose own a grade before that may be.
        why = f"The evaluation {cut}.\n{comments(printed)}"
        return write_result(settings, settings["grade_min"], why)
    # What was printed while it was made may be the submission's: compilers quote it.
    grades = _GRADE.findall(told)
    if not grades:
        raise BrokenError(f"it printed no grade (Grade :=>>).\n{printed[-2000:]}")
    return write_result(settings, float(grades[-1]), comments(printed))


def build(settings: Settings) -> str:
    """Make the program that is run on the cases; return what was printed."""
    if os.path.isfile(os.path.join(settings["bundle"], RUN)):
        printed, _ = call([f"./{RUN}"], settings["max_time_s"])
        made = EXECUTION
    else:
        printed, _ = call(["sh", settings["build"]], settings["max_time_s"])
        made = BUILT
        if os.path.isfile(made):
            with open(made, encoding="utf-8") as file:
                text = file.read()
            with open(made, "w", encoding="utf-8") as file:
                file.write(f"#!/bin/sh\n{text}")
    if os.path.isfile(made):
        os.chmod(made, 0o755)
        # What a submission's own build has put there is not in the way.
        clear(PROGRAM)
        os.rename(made, PROGRAM)
    return printed


def call(words: list[str], seconds: float) -> tuple[str, str | None]:
    """Run a script of the activity; return the last that it printed, and what cut it short."""
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise BrokenError(f"{words[0]} cannot be run: {error}") from None
    assert process.stdout is not None
    printed, cut = bytearray(), None
    reader = threading.Thread(target=keep_last, args=(process.stdout, printed), daemon=True)
    reader.start()
    try:
        number = Run(b"", code=process.wait(seconds)).signal
        cut = f"was ended by signal {number}" if number else None
    except subprocess.TimeoutExpired:
        cut = f"took longer than {seconds:g} s"
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    # Programs that the script has left behind may hold its output open.
    reader.join(_LEFT_BEHIND_S)
    text = printed.decode("utf-8", "replace")
    if cut is not None:
        text += f"\nIt {cut}.\n"
    # For staff, who see what the tests print.
    sys.stderr.write(text)
    return text, cut


def keep_last(stream: IO[bytes], printed: bytearray) -> None:
    """Read a stream to its end, and keep the last `_MAX_OUTPUT` bytes: grades come last."""
    with stream:
        while data := os.read(stream.fileno(), 65536):
            printed += data
            del printed[:-_MAX_OUTPUT]


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
