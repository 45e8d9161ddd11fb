"""Serialising results as JSON within the API's size limit."""

from __future__ import annotations

import json
from typing import Final

from job_engine.grading.results.hostile import clean_text
from job_engine.grading.results.model import Results

MAX_OUTPUT_BYTES: Final = 1_000_000
"""Most bytes of the JSON."""
_CAPS: Final = (16_384, 4_096, 1_024, 256, 0)
_TEST_CAPS: Final = (1_000, 200, 20, 0)


def to_json(results: Results, limit: int = MAX_OUTPUT_BYTES) -> str:
    """Return the results as JSON of at most `limit` bytes, long texts cut first.

    Scores are the last to go: when even without texts there are too many tests, the
    last ones are left out, with a note; the total stays.
    """
    text = _dump(results)
    for cap in _CAPS:
        if len(text.encode()) <= limit:
            return text
        results = _cut(results, cap)
        text = _dump(results)
    for count in _TEST_CAPS:
        if len(text.encode()) <= limit:
            return text
        dropped = len(results.tests) - count
        note = f"{dropped:,} tests left out: the results are too large to be stored whole"
        shorter = results.model_copy(
            update={"tests": results.tests[:count], "notes": [*results.notes[:5], note]}
        )
        text = _dump(shorter)
    return text


def _dump(results: Results) -> str:
    value = results.model_dump(mode="json", exclude={"tests"})
    # What a test leaves at its default is left out: there may be thousands.
    value["tests"] = [test.model_dump(mode="json", exclude_defaults=True) for test in results.tests]
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _cut(results: Results, cap: int) -> Results:
    update = {
        "output": _shorten(results.output, cap),
        "extra_data": {},
        "images": [],
        "notes": [*results.notes[:20], "long texts and extra data were cut to fit"],
        "tests": [
            test.model_copy(
                update={
                    "output": _shorten(test.output, cap),
                    "message": _shorten(test.message, cap),
                    "description": _shorten(test.description, cap),
                    "images": [],
                    "extra_data": {},
                }
            )
            for test in results.tests
        ],
        "phases": [
            phase.model_copy(update={"output": _shorten(phase.output, cap)})
            for phase in results.phases
        ],
    }
    return results.model_copy(update=update)


def _shorten(text: str, cap: int) -> str:
    return clean_text(text, cap) if len(text) > cap else text
