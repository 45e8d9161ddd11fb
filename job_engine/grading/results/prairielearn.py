"""PrairieLearn's `results.json` of an external grader ("External grading", "Grading result").

As there, exit code 0 and readable results of at most 1 MiB are required; otherwise the results
are ignored and the submission is not gradable, which costs no attempt.
"""

from __future__ import annotations

from typing import Any, Final

from job_engine.grading.results.base import HarnessError, Reading, TestOutput
from job_engine.grading.results.hostile import Fields, Notes, clean_text, read_object
from job_engine.grading.results.model import Image, Status, TestResult, TextFormat, Visibility

MAX_BYTES: Final = 1_048_576
_MAX_TESTS: Final = 5_000
_MAX_IMAGES: Final = 32
_NAME: Final = 512
_LINES: Final = 100
_FEEDBACK: Final = 100_000
_KNOWN: Final = frozenset(
    ("score", "gradable", "succeeded", "format_errors", "message", "output", "images", "tests")
)


def read_prairielearn(output: TestOutput) -> Reading:
    """Read `results/results.json`; scores are parts of the full score."""
    data = _document(output)
    notes = Notes()
    try:
        value = read_object(data, notes)
    except HarnessError as error:
        raise HarnessError(f"Could not parse the grading results. ({error.message})") from None
    top = Fields(value, notes, "")
    gradable = _flag(value, "gradable", notes)
    full = 1.0 if output.full_score is None else output.full_score
    score = _score(value, notes) * full if gradable else None
    if gradable and not _flag(value, "succeeded", notes):
        score = 0.0
    return Reading(
        score=score,
        max_score=full,
        gradable=gradable,
        format_errors=_lines(value.get("format_errors")),
        grader_message=top.text("message"),
        output=top.text("output"),
        output_format=TextFormat.ANSI,
        visibility=Visibility.VISIBLE,
        images=_images(top, notes, ""),
        tests=_tests(top, notes),
        extra_data=Fields({"feedback": _rest(value)}, notes, "").data("feedback", _FEEDBACK),
        notes=notes.all(),
    )


def _document(output: TestOutput) -> bytes:
    if output.exit_code != 0:
        raise HarnessError(
            f"The grader ended with exit code {output.exit_code}; its results are dropped."
        )
    try:
        data = output.document("results/results.json")
    except HarnessError as error:
        raise HarnessError(f"Could not read grading results. ({error.message})") from None
    if len(data) > MAX_BYTES:
        raise HarnessError("The grading results were larger than 1MB.")
    return data


def _score(value: dict[str, Any], notes: Notes) -> float:
    score = value.get("score")
    if score is None:
        notes.add("score: missing, taken as 0")
        return 0.0
    if isinstance(score, bool) or not isinstance(score, (int, float)):
        raise HarnessError("score: not a number; the grading job failed.")
    if not 0 <= score <= 1:
        raise HarnessError(f"score: {score:g} is not between 0 and 1; not gradable.")
    return float(score)


def _flag(value: dict[str, Any], key: str, notes: Notes) -> bool:
    flag = value.get(key, True)
    if not isinstance(flag, bool):
        notes.add(f"{key}: not true or false, taken as true")
        return True
    return flag


def _lines(value: Any) -> list[str]:
    if value is None:
        return []
    items = value if isinstance(value, list) else [value]
    return [
        clean_text(item if isinstance(item, str) else str(item), 2_000) for item in items[:_LINES]
    ]


def _rest(value: dict[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if key not in _KNOWN}


def _images(fields: Fields, notes: Notes, where: str) -> list[Image]:
    images = []
    for index, item in enumerate(fields.items("images", _MAX_IMAGES)):
        url = item.get("url") if isinstance(item, dict) else item
        label = item.get("label") if isinstance(item, dict) else None
        if not isinstance(url, str) or not url.startswith("data:image/"):
            notes.add(f"{where}images[{index}]: not a data URL of an image, ignored")
            continue
        shown = clean_text(label, _NAME) if isinstance(label, str) and label else "Figure"
        images.append(Image(url=clean_text(url, MAX_BYTES), label=shown))
    return images


def _tests(top: Fields, notes: Notes) -> list[TestResult]:
    items = top.items("tests", _MAX_TESTS)
    pointed = all(
        isinstance(item, dict)
        and _is_number(item.get("points"))
        and _is_number(item.get("max_points"))
        for item in items
    )
    if items and not pointed:
        notes.add("tests: one lacks points or max_points, so no test shows points")
    return [_test(item, index, notes, pointed=pointed) for index, item in enumerate(items)]


def _test(item: Any, index: int, notes: Notes, *, pointed: bool) -> TestResult:
    where = f"tests[{index}]."
    if not isinstance(item, dict):
        notes.add(f"{where[:-1]}: not an object, ignored")
        item = {}
    fields = Fields(item, notes, where)
    points = fields.number("points") if pointed else None
    most = fields.number("max_points") if pointed else None
    return TestResult(
        name=fields.text("name", _NAME) or f"Test {index + 1}",
        score=points,
        max_score=most,
        status=_status(points, most),
        description=fields.text("description"),
        message=fields.text("message"),
        output=fields.text("output"),
        output_format=TextFormat.ANSI,
        number=str(index + 1),
        images=_images(fields, notes, where),
    )


def _status(points: float | None, most: float | None) -> Status | None:
    if points is None or most is None or most == 0:
        return None
    return Status.PASSED if round(points, 2) == round(most, 2) else Status.FAILED


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
