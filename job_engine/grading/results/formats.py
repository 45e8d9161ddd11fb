"""The table of result formats by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from job_engine.grading.results.autolab import read_autolab
from job_engine.grading.results.base import Reader, Reading, TestOutput
from job_engine.grading.results.gradescope import read_gradescope
from job_engine.grading.results.junit import read_junit
from job_engine.grading.results.prairielearn import read_prairielearn
from job_engine.grading.results.stdout import read_stdout
from job_engine.grading.results.stream import read_stream
from job_engine.grading.results.tap import read_tap

FORMATS: Final[Mapping[str, Reader]] = MappingProxyType(
    {
        "autolab": read_autolab,
        "gradescope": read_gradescope,
        "junit": read_junit,
        "prairielearn": read_prairielearn,
        "stdout": read_stdout,
        "stream": read_stream,
        "tap": read_tap,
    }
)


def read_results(name: str, output: TestOutput) -> Reading:
    """Read with the format's reader; raises `HarnessError` when nothing can be stored."""
    return FORMATS[name](output)
