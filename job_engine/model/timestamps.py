"""CIMI timestamps: UTC, three fraction digits, `Z` (docs/cimi.md §1.15)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
FIRST_MS: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MS
LAST_MS: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MS
"""Range of the times that can be written as a timestamp."""
_PATTERN: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d{1,3}))?)?)?(?:Z|([+-])(\d\d):(\d\d))"
)


@lru_cache(maxsize=1024)  # consecutive times are often equal
def format_ms(at_ms: int) -> str:
    """Write epoch milliseconds as `2024-01-01T10:00:00.000Z`."""
    at = _EPOCH + timedelta(milliseconds=at_ms)
    return at.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


@lru_cache(maxsize=1024)
def parse_ms(text: str) -> int:
    """Parse a timestamp of a document. Raises `ValueError` for any other text."""
    match = _PATTERN.fullmatch(text) if text.isascii() else None
    if match is None:
        raise ValueError(f"{text!r} is no timestamp such as 2024-01-01T10:00:00.000Z")
    year, month, day, hour, minute, second = (int(g or 0) for g in match.groups()[:6])
    fraction, sign, zone_h, zone_m = match.groups()[6:]
    offset = timedelta(hours=int(zone_h or 0), minutes=int(zone_m or 0))
    zone = timezone(-offset if sign == "-" else offset)
    micros = int((fraction or "0").ljust(6, "0"))
    at = datetime(year, month, day, hour, minute, second, micros, tzinfo=zone)
    at_ms = (at - _EPOCH) // _MS
    if not FIRST_MS <= at_ms <= LAST_MS:  # the offset may move it out of the calendar
        raise ValueError(f"{text!r} is before the year 1 or after the year 9999")
    return at_ms
