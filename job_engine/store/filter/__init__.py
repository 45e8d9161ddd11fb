"""The CIMI filter language."""

from __future__ import annotations

from typing import Any

from job_engine.errors import InvalidFilterError

Filter = Any


def parse_filter(text: str) -> Filter:
    raise InvalidFilterError("Invalid CIMI filter. not yet")
