"""Judges what a program printed: by comparing, or by a checker of the assignment's."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import tempfile
from typing import Any

Rules = dict[str, Any]
MAX_SHOWN = 400
"""Characters of an output that are shown of a wrong answer."""
PATIENCE_S = 60
"""How long a checker may take."""
POINTS = 7
"""Exit code of a checker that prints the fraction of the points first."""
ACCEPTED = {"custom": (0, POINTS), "kattis": (42,)}
"""Exit codes of a checker that takes an output, by its kind."""
REJECTED = {"custom": (1, 2, 4, 8), "kattis": (43,)}
"""The same for a wrong output; of testlib: wrong answer, presentation error, dirt, unexpected end
of file."""
BUILD_FAILED = (3, 126, 127)
"""Exit codes that say that a checker is at fault itself; 3 is testlib's."""


class BrokenError(Exception):
    """The assignment is at fault: no submission may lose points."""


def read(path: str) -> bytes | None:
    """Return a file's content; None when there is none."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def expected_of(path: str) -> bytes | None:
    """Return the expected output of a case; None if it has none."""
    expected = read(f"{path}.out")
    return read(f"{path}.ans") if expected is None else expected


def judge(rules: Rules, path: str, output: bytes) -> tuple[float, str | None]:
    """Return the fraction of the points, 0 to 1, and a problem or the checker's message."""
    checker = rules["checker"]
    expected = expected_of(path)
    if checker["kind"] in ("custom", "kattis"):
        return run_checker(checker, path, output, expected or b"", rules)
    if expected is None:
        raise BrokenError(f"{path} has no .out and no .ans")
    if same(checker, output, expected):
        return 1.0, None
    if not rules["shown"]:
        return 0.0, "wrong answer"
    return 0.0, f"expected {show(expected)}, printed {show(output)}"


def same(checker: Rules, output: bytes, expected: bytes) -> bool:
    """Whether the built-in checker takes the output."""
    kind = checker["kind"]
    if checker.get("ignore_case"):
        output, expected = output.lower(), expected.lower()
    if kind == "exact":
        return output == expected
    if kind == "lines":
        return trimmed(output) == trimmed(expected)
    one, other = output.split(), expected.split()
    if kind == "tokens":
        return one == other
    tolerance = checker.get("tolerance", 1e-6)
    return len(one) == len(other) and all(map(close_to, one, other, itertools.repeat(tolerance)))


def trimmed(data: bytes) -> list[bytes]:
    """Return the lines without trailing white space, and without trailing empty lines."""
    lines = [line.rstrip() for line in data.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def close_to(printed: bytes, expected: bytes, tolerance: float) -> bool:
    """Whether two words are equal, or numbers within an absolute or relative tolerance."""
    if printed == expected:
        return True
    try:
        one, other = float(printed), float(expected)
    except ValueError:
        return False
    if not (math.isfinite(one) and math.isfinite(other)):
        return one == other
    return abs(one - other) <= max(tolerance, tolerance * abs(other))


def run_checker(
    checker: Rules, path: str, output: bytes, expected: bytes, rules: Rules
) -> tuple[float, str | None]:
    """Have a checker of the assignment's judge; it gets files, and no shell sees their content."""
    words = words_of(checker["command"])
    with tempfile.TemporaryDirectory() as scratch:
        given, wanted = lay_out(scratch, path, expected)
        printed = os.path.join(scratch, "output")
        with open(printed, "wb") as file:
            file.write(output)
        if checker["kind"] == "custom":
            return verdict_of(*run_to_end([*words, given, printed, wanted], os.devnull))
        feedback = os.path.join(scratch, "feedback")
        os.mkdir(feedback)
        code, report = run_to_end([*words, given, wanted, feedback + os.sep], printed)
        return validated(code, report, feedback, rules)


def lay_out(scratch: str, path: str, expected: bytes) -> tuple[str, str]:
    """Write the input and the expected output of a case to files; return their paths."""
    given, wanted = os.path.join(scratch, "input"), os.path.join(scratch, "expected")
    for name, data in ((given, read(f"{path}.in") or b""), (wanted, expected)):
        with open(name, "wb") as file:
            file.write(data)
    return given, wanted


def words_of(command: str | list[str]) -> list[str]:
    """Return a command as words, to which the names of files are added."""
    return ["sh", "-c", command + ' "$@"', "sh"] if isinstance(command, str) else list(command)


def build(command: str | list[str]) -> None:
    """Run the build command of a checker."""
    words = ["sh", "-c", command] if isinstance(command, str) else list(command)
    code, report = run_to_end(words, os.devnull)
    if code != 0:
        raise BrokenError(f"the checker cannot be built ({code}): {report[-1000:]}")


def run_to_end(words: list[str], stdin: str) -> tuple[int, str]:
    """Run a checker; return its exit code and its output."""
    try:
        with open(stdin, "rb") as file:
            checker = subprocess.run(
                words,
                stdin=file,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=PATIENCE_S,
                check=False,
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BrokenError(f"the checker cannot be run: {error}") from None
    return checker.returncode, checker.stdout.decode("utf-8", "replace")[:2000].strip()


def validated(code: int, report: str, feedback: str, rules: Rules) -> tuple[float, str | None]:
    """Return fraction and message for the exit code of a problem package's output validator.

    In scored problems it may write the points of the case, or the fraction of them, into a file
    in its feedback directory (problem package format, "Output Validators").
    """
    if code not in (42, 43):
        raise BrokenError(f"the validator ended with {code}, not 42 or 43: {report[-500:]}")
    message = read(os.path.join(feedback, "teammessage.txt")) or b""
    text = message.decode("utf-8", "replace")[:2000].strip()
    if code == 43:
        return 0.0, text or "wrong"
    fraction = number_in(os.path.join(feedback, "score_multiplier.txt"))
    score = number_in(os.path.join(feedback, "score.txt"))
    if fraction is None and score is not None:
        fraction = part_of(score, rules)
    return 1.0 if fraction is None else fraction, text or None


def part_of(score: float, rules: Rules) -> float:
    """Return the fraction of a case's points that a score is; above 1 for one above them.

    Where the worst case of a group counts, the score of each is one for the whole group.
    """
    group = rules["group_points"]
    if group is None:
        return score / rules["points"] if rules["points"] else 1.0
    return min(1.0, score / group) if group else 1.0


def number_in(path: str) -> float | None:
    """Return the number in a file that a validator may write; None if it did not."""
    data = read(path)
    if data is None:
        return None
    try:
        number = float(data)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        name = os.path.basename(path)
        raise BrokenError(f"the validator wrote {data[:50]!r} into {name}, which is no score")
    return number


def verdict_of(code: int, report: str) -> tuple[float, str | None]:
    """Return fraction and message for the exit code and output of a checker."""
    if code == 0:
        return 1.0, None
    if code in REJECTED["custom"]:
        return 0.0, report or "wrong"
    if code == POINTS:
        first, _, rest = report.partition("\n")
        words = first.removeprefix("points ").split(None, 1)
        try:
            fraction = float(words[0])
        except (IndexError, ValueError):
            raise BrokenError(f"the checker printed no part of the points: {first!r}") from None
        if not 0 <= fraction <= 1:
            raise BrokenError(f"the checker printed {fraction}, which is no part of the points")
        return fraction, "\n".join([*words[1:], *([rest] if rest else [])]) or None
    raise BrokenError(f"the checker ended with {code}: {report[-500:]}")


def show(data: bytes) -> str:
    """Return an output on one line, cut to `MAX_SHOWN` characters."""
    text = " ".join(data.decode("utf-8", "replace").split())
    return repr(text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…")
