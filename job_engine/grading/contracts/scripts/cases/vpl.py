"""Compares as Moodle's VPL does: an output is right if one of those expected matches it.

What is expected is a JSON object: `outputs`, in the words of `vpl_evaluate.cases`, and perhaps the
`message` of a case that failed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from .checkers import BrokenError, expected_of, show
from .runs import Run

Rules = dict[str, Any]
_EXACT = re.compile(r'(\*?)"(.*)"', re.DOTALL)
_PATTERN = re.compile(r"/(.+)/([^/]*)", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_WHOLE = re.compile(r"[+-]?[0-9]+")
_WORD = re.compile(r"[^\W_]+")
_CLOSE = 1e-4


def judge_vpl(rules: Rules, path: str, run: Run) -> tuple[float, str | None, str]:
    """Return fraction, problem and verdict.

    As there, an exit code that is expected is enough, and no output makes up for a signal.
    """
    expected = json.loads(expected_of(path) or b"{}")
    output, problem, ended, code = run
    if code is None:
        return 0.0, problem, ended
    if rules["exit_code"] != "any" and problem is None:
        return 1.0, None, ""
    if run.signal:
        return 0.0, f"died of signal {run.signal}", "runtime-error"
    text = output.decode("utf-8", "replace").replace("\r", "")
    if any(matcher_of(told)(text) for told in expected["outputs"]):
        return 1.0, None, ""
    if expected.get("message"):
        return 0.0, expected["message"], ended
    if problem is not None or not rules["shown"]:
        return 0.0, problem or "wrong answer", ended
    first = next(iter(expected["outputs"]), "")
    return 0.0, f"expected {show(first.encode())}, printed {show(output)}", ""


def matcher_of(told: str) -> Callable[[str], bool]:
    """Return what decides on an output, by the form of what is expected."""
    clean = told.strip()
    if (exact := _EXACT.fullmatch(clean)) is not None:
        return lambda text: is_exactly(text, exact[2], anywhere=bool(exact[1]))
    if (pattern := _PATTERN.fullmatch(clean)) is not None:
        return compiled(pattern[1], pattern[2])
    words = clean.replace("*", " ").split()
    if all(map(_NUMBER.fullmatch, words)):
        return lambda text: has_numbers(text, words, at_end=clean.startswith("*"))
    wanted = words_of(clean)
    # Its last words; without any, whatever there is.
    return lambda text: not wanted or words_of(text)[-len(wanted) :] == wanted


def is_exactly(text: str, wanted: str, *, anywhere: bool) -> bool:
    """Whether a text is what is wanted, or ends with it; a line end may follow."""
    if not wanted.endswith("\n") and text.endswith("\n") and text != wanted:
        text = text[:-1]
    return text.endswith(wanted) if anywhere else text == wanted


def compiled(pattern: str, flags: str) -> Callable[[str], bool]:
    """Return a search for an extended regular expression, with the flags `i` and `m`."""
    wanted = re.MULTILINE if "m" in flags else re.DOTALL
    if "i" in flags:
        wanted |= re.IGNORECASE
    try:
        found = re.compile(pattern, wanted)
    except re.error as error:
        raise BrokenError(f"the regular expression /{pattern}/ cannot be read: {error}") from None
    return lambda text: found.search(text) is not None


def has_numbers(text: str, wanted: list[str], *, at_end: bool) -> bool:
    """Whether the numbers in a text, or the last of them, are those wanted."""
    found = _NUMBER.findall(text)
    if at_end:
        found = found[max(0, len(found) - len(wanted)) :]
    return len(found) == len(wanted) and all(map(near, wanted, found))


def near(wanted: str, found: str) -> bool:
    """Whether two numbers are equal, or close; only a whole one is equal to a whole one."""
    if _WHOLE.fullmatch(wanted):
        return _WHOLE.fullmatch(found) is not None and Decimal(wanted) == Decimal(found)
    one, other = float(wanted), float(found)
    return abs(one - other) < _CLOSE * (abs(one) or 1)


def words_of(text: str) -> list[str]:
    """Return the words of a text, without regard to case and to what is between them."""
    return _WORD.findall(text.lower())
