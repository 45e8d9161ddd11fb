"""Runs a Moodle VPL activity on one submission: its scripts, beside the student's code.

Its settings are those of the cases, with `bundle`, `build`, `grade_min`, `grade_max` and
`max_time_s` in addition, and without `cases` where `vpl_evaluate.sh` does it all.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from typing import IO, Any

from . import harness
from .checkers import BrokenError
from .files import clear, put_all
from .runs import Run

Settings = dict[str, Any]
_GRADE = re.compile(r"^Grade :=>>[ \t]*([-+]?(?:\d+\.?\d*|\.\d+))\s*$", re.MULTILINE | re.ASCII)
_COMMENT = "Comment :=>>"
_MAX_OUTPUT = 1 << 20
_MAX_SHOWN = 8_000
_LEFT_BEHIND_S = 1.0
_OWN = ("vpl-cases",)
"""What the engine has put beside the activity's files."""
_EVALUATE, _RUN, _EXECUTION = "vpl_evaluate.sh", "vpl_run.sh", "vpl_execution"
_PROGRAM, _BUILT = "vpl_test", ".job-engine-run"
_COMMON, _ENVIRONMENT = "common_script.sh", "vpl_environment.sh"
_BEFORE = "pre_vpl_run.sh"
_RESERVED = (_EVALUATE, _RUN, _EXECUTION, _PROGRAM, _BUILT, _COMMON, _ENVIRONMENT, _BEFORE)
"""Names that no file of a submission has: what is found there counts as the activity's."""


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


def lay_out(settings: Settings) -> None:
    """Put the activity's files over the submission's, and what its scripts expect beside them."""
    for name in _RESERVED:
        clear(name)
    students = files_below(".")
    put_all(settings["bundle"], ".", leave_out=_OWN)
    write_environment(settings, students)
    for name in os.listdir("."):
        # What a link points to may be nobody's to change.
        if name.endswith(".sh") and os.path.isfile(name) and not os.path.islink(name):
            os.chmod(name, 0o755)
            if os.path.isfile(os.path.join(settings["bundle"], name)):
                name_shell(name)


def files_below(place: str) -> list[str]:
    """Return the paths of the files in a directory, those of a directory after its own."""
    found = [
        os.path.relpath(os.path.join(directory, name), place)
        for directory, _, names in os.walk(place)
        for name in names
    ]
    return sorted(found, key=lambda path: (path.count(os.sep), path))


def name_shell(script: str) -> None:
    """Have a script of the activity that does not say its shell be bash's, as VPL does."""
    with open(script, "rb") as file:
        text = file.read()
    if not text.startswith(b"#!"):
        with open(script, "wb") as file:
            file.write(b"#!/bin/bash\n" + text)


def is_text(path: str) -> bool:
    """Whether a program is no binary: a script, which may not say its shell."""
    with open(path, "rb") as file:
        return b"\0" not in file.read(4096)


def run_cases(settings: Settings, settings_file: str) -> int:
    """Make the program, and run it on the cases."""
    printed = build(settings)
    if not os.path.isfile(settings["run"]):
        return write_result(settings, 0.0, f"The program cannot be run.\n{printed}")
    return harness.main(settings_file)


def evaluate(settings: Settings) -> int:
    """Have the activity make and run an evaluation of its own; the last grade printed counts."""
    seconds = settings["max_time_s"]
    printed, _ = call([f"./{_EVALUATE}"], seconds)
    if not os.path.isfile(_EXECUTION):
        return write_result(settings, 0.0, f"The program cannot be evaluated.\n{printed}")
    os.chmod(_EXECUTION, 0o755)
    if is_text(_EXECUTION):
        name_shell(_EXECUTION)
    told, cut = call([f"./{_EXECUTION}"], seconds)
    printed += told
    if cut is not None:
        # By the program, perhaps, whose own a grade before that may be.
        why = f"The evaluation {cut}.\n{comments(printed)}"
        return write_result(settings, settings["grade_min"], why)
    grades = _GRADE.findall(printed)
    if not grades:
        raise BrokenError(f"it printed no grade (Grade :=>>).\n{printed[-2000:]}")
    return write_result(settings, float(grades[-1]), comments(printed))


def build(settings: Settings) -> str:
    """Make the program that is run on the cases; return what was printed."""
    if os.path.isfile(os.path.join(settings["bundle"], _RUN)):
        printed, _ = call([f"./{_RUN}"], settings["max_time_s"])
        made = _EXECUTION
    else:
        printed, _ = call(["sh", settings["build"]], settings["max_time_s"])
        made = _BUILT
        if os.path.isfile(made):
            with open(made, encoding="utf-8") as file:
                text = file.read()
            with open(made, "w", encoding="utf-8") as file:
                file.write(f"#!/bin/sh\n{text}")
    if os.path.isfile(made):
        os.chmod(made, 0o755)
        # What a submission's own build has put there is not in the way.
        clear(_PROGRAM)
        os.rename(made, _PROGRAM)
    return printed


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
    with open(_ENVIRONMENT, "w", encoding="utf-8") as file:
        file.write("\n".join(["#!/bin/bash", *lines]) + "\n")
    if not os.path.exists(_COMMON):
        shutil.copy(os.path.join(os.path.dirname(__file__), "vpl_common.sh"), _COMMON)


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
