"""Receipts of grades that never were, for tests of what is made of results."""

from __future__ import annotations

from typing import Any

from job_engine.grading.results import Receipt


def make_receipt(**more: Any) -> Receipt:
    """Return a receipt of Docker's that cannot be forged, but for what is said otherwise."""
    values = {
        "assignment": "sha256:a",
        "assignment_name": "hw",
        "submission": "sha256:b",
        "engine": "0",
        "sandbox": "docker",
        "forgeable": False,
    }
    return Receipt(**(values | more))
