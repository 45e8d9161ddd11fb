"""The validations of Submitty's tests: outputs compared, and validators that judge them."""

from __future__ import annotations

import contextlib
import glob
import json
import math
import operator
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable
from typing import Any

from .checkers import BrokenError
from .files import clear, copy_tree, put_all

_MAX_LINES = 5_000
"""Lines of each output that are compared."""
_INPUT, _RESULTS = "custom_validator_input.json", "validation_results.json"
_PRINTED = "validation_stdout.json"
_COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}


def text_of(path: str) -> str:
    """Return the text of a file; none of what is no file, which a program may have put there."""
    if not os.path.isfile(path):
        return ""
    with open(path, "rb") as file:
        return file.read(1 << 20).decode("utf-8", "replace").replace("\r\n", "\n")


def judge(check: dict[str, Any], place: str, expected: str) -> tuple[float, str | None]:
    """Return the part of its points that a check gives, 0 to 1, and what is wrong."""
    method = check["method"]
    if method == "fileExists":
        there = [bool(glob.glob(os.path.join(place, name))) for name in check["actual_file"]]
        right = any(there) if check["one_of"] else all(there)
        return (1.0, None) if right else (0.0, f"there is no {', '.join(check['actual_file'])}")
    name = next(iter(check["actual_file"]), "STDOUT.txt")
    # Not through a link that leads out: it may lead to what is expected.
    found = next((p for p in glob.glob(os.path.join(place, name)) if is_inside(p, place)), None)
    warns = method.startswith("warn")
    if found is None or not os.path.isfile(found):
        return (1.0, None) if warns else (0.0, f"there is no {name}")
    text = text_of(found)
    if method == "intComparison":
        return compare_number(check, name, text)
    if method == "searchToken":
        missing = [token for token in check["data"] if token not in text]
        part = 1 - len(missing) / len(check["data"]) if check["data"] else 0.0
        return part, f"{name} has no {', '.join(missing)}" if part < 1 else None
    if method.endswith("Empty"):
        right = bool(text) != method.endswith("NotEmpty")
        what = "should be empty" if text else "should not be empty"
        return (1.0 if right or warns else 0.0), (None if right else f"{name} {what}")
    grade = likeness(check, text, wanted_of(check, expected))
    return grade, None if grade >= 1 else f"{name} is not what was expected ({grade:.0%} of it)"


def is_inside(path: str, place: str) -> bool:
    """Whether a path, links followed, is below a directory."""
    return os.path.realpath(path).startswith(os.path.realpath(place) + os.sep)


def drop_links(place: str) -> None:
    """Remove the links of a directory that lead out of it: they may lead to what is expected."""
    for directory, folders, names in os.walk(place):
        for path in (os.path.join(directory, name) for name in (*folders, *names)):
            if os.path.islink(path) and not is_inside(path, place):
                os.unlink(path)


def wanted_of(check: dict[str, Any], expected: str) -> str:
    """Return what an output is compared to: text of the configuration, or a file of it."""
    if check["expected_string"] is not None:
        return str(check["expected_string"])
    wanted = os.path.join(expected, check["expected_file"])
    if not check["expected_file"] or not os.path.isfile(wanted):
        raise BrokenError(f"there is no {check['expected_file'] or 'expected_file'} to compare to")
    return text_of(wanted)


def compare_number(check: dict[str, Any], name: str, text: str) -> tuple[float, str | None]:
    """Compare the whole number with which an output begins."""
    found = re.match(r"\s*([-+]?\d{1,18})(?!\d)", text)
    if found is None:
        return 0.0, f"{name} does not begin with a number"
    compare = _COMPARISONS.get(check["comparison"])
    if compare is None or check["term"] is None:
        raise BrokenError("an intComparison has no comparison (eq, ne, gt, ge, lt, le) or no term")
    if compare(int(found[1]), int(check["term"])):
        return 1.0, None
    return 0.0, f"{found[1]} should be {check['comparison']} {int(check['term'])}"


def validate(
    check: dict[str, Any], prefix: str, place: str, config: str, seconds: float
) -> tuple[float, str | None]:
    """Have a validator of the configuration judge a test, whose directory it finds by `prefix`.

    It says what it found in a file, or on its standard output. A failure of its own gives no
    points, as in Submitty ("Python Custom Validation").
    """
    work = tempfile.mkdtemp()
    try:
        for name in ("test_input", "test_output", "custom_validation_code"):
            put_all(os.path.join(config, name), work)
        clear(os.path.join(work, prefix))
        copy_tree(place, os.path.join(work, prefix))
        drop_links(os.path.join(work, prefix))
        with open(os.path.join(work, _INPUT), "w", encoding="utf-8") as file:
            # The name of a student is the platform's to know.
            json.dump(
                {**check["given"], "testcase_prefix": f"{prefix}/", "username": "student"}, file
            )
        errors = run_validator(check["command"], work, seconds)
        said = text_of(os.path.join(work, _RESULTS)) or text_of(os.path.join(work, _PRINTED))
    finally:
        clear(work)
    value = object_of(said)
    data = object_in(value, "data")
    grade: Any = data.get("score")
    known = isinstance(grade, (int, float)) and not isinstance(grade, bool)
    if value.get("status") != "success" or not known or math.isnan(grade):
        return 0.0, f"the validator failed: {value.get('message') or errors[-1000:]}"
    message = data.get("message") or ""
    if isinstance(message, list):
        message = "\n".join(str(m.get("message", "")) for m in message if isinstance(m, dict))
    grade = min(1.0, max(0.0, grade))
    return grade, str(message) or (None if grade >= 1 else f"{grade:.0%} of it is right")


def object_in(value: dict[str, Any], key: str) -> dict[str, Any]:
    """Return an object of an object; empty where there is none."""
    inner = value.get(key)
    return inner if isinstance(inner, dict) else {}


def object_of(text: str) -> dict[str, Any]:
    """Return a JSON object; empty where a text is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def run_validator(command: str, work: str, seconds: float) -> str:
    """Run a validator, and return what it printed as errors."""
    with (
        open(os.path.join(work, _PRINTED), "wb") as stdout,
        tempfile.TemporaryFile() as stderr,
    ):
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            cwd=work,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        stderr.seek(0)
        return stderr.read(1 << 20).decode("utf-8", "replace")


def likeness(check: dict[str, Any], text: str, wanted: str) -> float:
    """Return how much of an output is as expected: lines in the same order, of the longer one."""
    by_words = check["comparison"] == "byLinebyWord" or check["ignoreWhitespace"]
    split: Callable[[str], object] = str.split if by_words else str
    one, other = ([split(line) for line in t.splitlines()[:_MAX_LINES]] for t in (text, wanted))
    if check["lineSwapOk"]:
        return swapped(one, other)
    longest = len(other) if check["extra_student_output"] else max(len(one), len(other))
    return common(one, other) / longest if longest else 0.0


def swapped(one: list[Any], other: list[Any]) -> float:
    """Return how much of the expected lines is there in any order; each is meant to be unique."""
    found = [0] * len(other)
    for line in one:
        if line in other:
            found[other.index(line)] += 1
    too_many = sum(count - 1 for count in found if count > 1) + len(one) - sum(found)
    wrong = max(found.count(0), too_many)
    return max(0.0, (len(other) - wrong) / len(other)) if other else 0.0


def common(one: list[Any], other: list[Any]) -> int:
    """Return the length of the longest common subsequence."""
    if one == other:
        return len(one)
    row = [0] * (len(other) + 1)
    for left in one:
        before = 0
        for index, right in enumerate(other, 1):
            above = row[index]
            row[index] = before + 1 if left == right else max(above, row[index - 1])
            before = above
    return row[-1]
