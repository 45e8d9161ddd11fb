"""For how long a setup that failed is not repeated."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from job_engine.errors import AssignmentError
from job_engine.grading import setup


def test_a_failure_is_remembered_for_a_while_only(tmp_path: Path) -> None:
    marker = tmp_path / "image"
    failed = marker.with_suffix(".failed")
    setup.raise_remembered(marker)
    failed.write_text("no such package")
    with pytest.raises(AssignmentError, match="no such package"):
        setup.raise_remembered(marker)
    # An hour ahead: it failed while the clock was wrong, which has been put right since.
    for age_s in (3600, -3600):
        os.utime(failed, (time.time() - age_s,) * 2)
        setup.raise_remembered(marker)
