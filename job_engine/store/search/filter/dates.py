"""Dates in filters: with missing parts, and with date math such as `now-7d/d`.

A text stands for a span of time; each comparison takes the end of it that its meaning
asks for (docs/cimi.md §2.2). All of it is UTC unless a zone is given.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from job_engine.errors import InvalidFilterError
from job_engine.model.timestamps import FIRST_MS, LAST_MS

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)

_DATE: Final = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?)?)?)?"
    r"(Z|[+-]\d\d:\d\d)?",
    re.ASCII,
)
_STEP: Final = re.compile(r"([+-])(\d{1,9})([yMwdhHms])|/([yMwdhHms])", re.ASCII)
_UNITS: Final = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "H": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
}
_PARTS: Final = ("y", "M", "d", "h", "m", "s")


@dataclass(frozen=True)
class Span:
    """The first and last millisecond of the time that a text stands for."""

    first_ms: int
    last_ms: int


def moment(epoch_ms: int) -> Span:
    """Return a moment as a span; one beyond the range of timestamps becomes its nearest end."""
    nearest = max(FIRST_MS, min(epoch_ms, LAST_MS))
    return Span(nearest, nearest)


def parse_span(text: str, now_ms: int) -> Span:
    """Parse a date, epoch milliseconds, or date math. Raises `InvalidFilterError`."""
    try:
        if text.isascii() and text.isdecimal() and len(text) > 4:
            return moment(int(text))
        return _span(text, now_ms)
    except (ValueError, OverflowError) as error:
        raise InvalidFilterError(
            f"Invalid CIMI filter. {text!r} is no date; write '2024-01-31', "
            "'2024-01-31T10:00:00Z' or 'now-7d'."
        ) from error


def _span(text: str, now_ms: int) -> Span:
    if text.startswith("now"):
        at, unit, math = _EPOCH + timedelta(milliseconds=now_ms), "", text[3:]
    else:
        date, _, math = text.partition("||")
        at, unit = _anchor(date)
    position = 0
    while position < len(math):
        step = _STEP.match(math, position)
        if step is None:
            raise ValueError(math)
        sign, count, of, to = step.groups()
        if to:
            at, unit = _floor(at, to), to
        else:
            at = _add(at, int(count) if sign == "+" else -int(count), of)
        position = step.end()
    first = (at - _EPOCH) // _MS
    return Span(first, _last_ms(at, unit) if unit else first)


def _last_ms(at: datetime, unit: str) -> int:
    try:
        return (_add(at, 1, unit) - _EPOCH) // _MS - 1
    except (ValueError, OverflowError):  # the last unit of the calendar
        return LAST_MS


def _anchor(text: str) -> tuple[datetime, str]:
    """Return the start of a date, and its smallest unit; empty for milliseconds."""
    match = _DATE.fullmatch(text)
    if match is None:
        raise ValueError(text)
    *parts, fraction, zone = match.groups()
    given = [int(part) for part in parts if part is not None]
    year, month, day, *clock = given + [1, 1][max(0, len(given) - 1) :]
    hour, minute, second = [*clock, 0, 0, 0][:3]
    micros = int((fraction or "0").ljust(6, "0")[:6])
    at = datetime(year, month, day, hour, minute, second, micros, tzinfo=_zone(zone))
    return at.astimezone(UTC), "" if fraction else _PARTS[len(given) - 1]


def _zone(text: str | None) -> timezone:
    if text is None or text == "Z":
        return UTC
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[4:]))
    return timezone(offset if text[0] == "+" else -offset)


def _add(at: datetime, count: int, unit: str) -> datetime:
    if unit not in ("y", "M"):
        return at + count * _UNITS[unit]
    months = at.year * 12 + at.month - 1 + count * (12 if unit == "y" else 1)
    year, month = divmod(months, 12)
    for day in range(at.day, at.day - 4, -1):  # 31 January and a month is 28 February
        try:
            return at.replace(year=year, month=month + 1, day=day)
        except ValueError:
            if not 1 <= year <= 9999:
                raise
    raise ValueError(unit)


def _floor(at: datetime, unit: str) -> datetime:
    if unit == "w":
        return _floor(at, "d") - timedelta(days=at.weekday())
    kept = {"y": 1, "M": 2, "d": 3, "h": 4, "H": 4, "m": 5, "s": 6}[unit]
    given = (at.year, at.month, at.day, at.hour, at.minute, at.second)[:kept]
    year, month, day, hour, minute, second = (*given, *(1, 1, 1, 0, 0, 0)[kept:])
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
