"""Parsing hostile JSON, numbers and texts.

A wrong value raises no error: it is corrected or left out, with a note. Only input that is
not a JSON object at all is refused.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from enum import StrEnum
from typing import Any, Final, TypeVar

from job_engine.grading.results.base import MAX_DOCUMENT_BYTES, HarnessError

E = TypeVar("E", bound=StrEnum)

MAX_DEPTH: Final = 32
MAX_TEXT: Final = 65_536
"""Characters of one text that are kept."""
MAX_NOTES: Final = 50

_REPLACEMENT: Final = "\ufffd"
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")
_ESCAPE: Final = re.compile(r"""\\(?:(["\\/bfnrtu])|(.))""", re.DOTALL)
_MAX_DIGITS: Final = 300
_MAX_NUMBER: Final = 1e300
"""Greatest number of points: the sum of all is still finite."""


class Notes:
    """Notes on corrected values; each kind once, and limited in number."""

    def __init__(self) -> None:
        self._notes: dict[str, None] = {}

    def add(self, note: str) -> None:
        """Add a note, unless it is there or there are too many."""
        if len(self._notes) < MAX_NOTES:
            self._notes[clean_text(note, 300)] = None

    def all(self) -> list[str]:
        """Return the notes in the order they came."""
        return list(self._notes)


def read_object(data: bytes, notes: Notes, *, lenient: bool = False) -> dict[str, Any]:
    """Parse a JSON object. Raises `HarnessError` for anything else.

    `lenient` accepts two mistakes of shell scripts, with a note: line feeds inside texts, and a
    backslash before any character. Platforms in Ruby accepted the latter for years (its json
    before 2.17.0 ignored the backslash).
    """
    if len(data) > MAX_DOCUMENT_BYTES:
        raise HarnessError(f"The results are larger than {MAX_DOCUMENT_BYTES // 2**20} MiB.")
    text = _decode(data, notes)
    try:
        try:
            value = _parse(text, notes)
        except ValueError:
            if not lenient:
                raise
            value = _parse(_ESCAPE.sub(_escape, text), notes, strict=False)
            notes.add("the results are not valid JSON: texts with bare line ends or backslashes")
    except RecursionError:
        raise HarnessError("The results are nested too deeply to be read.") from None
    except ValueError as error:
        raise HarnessError(f"The results are not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise HarnessError(f"The results are a JSON {_kind(value)}, not an object.")
    return value


def clean_text(value: str, limit: int = MAX_TEXT) -> str:
    """Return `value` as it can be stored: no NUL, no lone surrogates, cut with a marker."""
    text = _UNSTORABLE.sub(_REPLACEMENT, value[: limit + 1])
    if len(value) <= limit:
        return text
    return f"{text[:limit]}\n… cut: {len(value) - limit:,} more characters"


def decode(data: bytes, limit: int = MAX_TEXT) -> str:
    """Return printed bytes as text, keeping the end where the error usually is."""
    # An invalid byte becomes one character, so that the kept characters can be counted.
    kept = data[-4 * limit :].decode("utf-8", "surrogateescape")[-limit:]
    cut = len(data) - len(kept.encode("utf-8", "surrogateescape"))
    text = _UNSTORABLE.sub(_REPLACEMENT, kept)
    return f"… cut: {cut:,} bytes before this\n{text}" if cut else text


class Fields:
    """One JSON object, whose fields are read by the wanted type."""

    def __init__(self, value: dict[str, Any], notes: Notes, where: str) -> None:
        self._value = value
        self._notes = notes
        self._where = where

    def __contains__(self, key: str) -> bool:
        return self._value.get(key) is not None

    def number(self, key: str) -> float | None:
        """Return a finite number, also from a text, as some helpers write it."""
        value = self._value.get(key)
        if isinstance(value, str):
            with contextlib.suppress(ValueError):
                value = float(value)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self._wrong(key, "a number")
            return None
        number = _finite(float(value), self._notes)
        return None if number is None else min(max(number, -_MAX_NUMBER), _MAX_NUMBER)

    def text(self, key: str, limit: int = MAX_TEXT) -> str:
        """Return a text; a number is converted, and any other value becomes its JSON."""
        value = self._value.get(key)
        if value is None:
            return ""
        if isinstance(value, str):
            return clean_text(value, limit)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self._notes.add(f"{self._where}{key}: not text, taken as JSON")
        return clean_text(_dump(value), limit)

    def choice(self, key: str, kind: type[E], default: E, wrong: E | None = None) -> E:
        """Return a member of an enum; `wrong`, or else the default, for an invalid value."""
        value = self._value.get(key)
        if value is None:
            return default
        try:
            return kind(value)
        except ValueError:
            taken = default if wrong is None else wrong
            self._notes.add(f"{self._where}{key}: not one of {', '.join(kind)}, taken as {taken}")
            return taken

    def texts(self, key: str, limit: int, length: int) -> list[str]:
        """Return a list of texts."""
        items = self.items(key, limit)
        return [clean_text(i if isinstance(i, str) else _dump(i), length) for i in items]

    def items(self, key: str, limit: int) -> list[Any]:
        """Return a list, cut at `limit`."""
        value = self._value.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self._wrong(key, "a list")
            return []
        if len(value) > limit:
            self._notes.add(f"{self._where}{key}: only the first {limit:,} of {len(value):,} kept")
        return value[:limit]

    def data(self, key: str, limit: int) -> dict[str, Any]:
        """Return an object unchanged, if it is small and flat enough to store."""
        value = self._value.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self._wrong(key, "an object")
            return {}
        storable = _storable(value, MAX_DEPTH)
        if len(_dump(storable)) > limit:
            self._notes.add(f"{self._where}{key}: left out, larger than {limit:,} characters")
            return {}
        return dict(storable)

    def _wrong(self, key: str, wanted: str) -> None:
        self._notes.add(f"{self._where}{key}: not {wanted}, ignored")


def _parse(text: str, notes: Notes, *, strict: bool = True) -> Any:
    return json.loads(
        text,
        strict=strict,
        parse_int=_integer,
        parse_float=lambda text: _finite(float(text), notes),
        parse_constant=lambda text: _constant(text, notes),
        object_pairs_hook=lambda pairs: _pairs(pairs, notes),
    )


def _escape(found: re.Match[str]) -> str:
    """Return a valid JSON escape unchanged; of any other, only the escaped character."""
    return found[0] if found[1] else found[2]


def _decode(data: bytes, notes: Notes) -> str:
    encoding = json.detect_encoding(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        notes.add(f"the results are not valid {encoding}; wrong bytes were replaced")
        return data.decode(encoding, "replace")


def _integer(text: str) -> int | float:
    # `int` of a million digits takes minutes. Beyond 18 a float is as good; beyond 300
    # no number is meant, and any finite one will do.
    if len(text) <= 18:
        return int(text)
    return float(text[: _MAX_DIGITS + 1])


def _finite(value: float, notes: Notes) -> float | None:
    if math.isfinite(value):
        return value
    notes.add("a number is not finite, ignored")
    return None


def _constant(text: str, notes: Notes) -> None:
    notes.add(f"{text} is no JSON number, ignored")


def _pairs(pairs: list[tuple[str, Any]], notes: Notes) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        notes.add("a key stands twice in an object; the last one counts")
    return value


def _storable(value: Any, depth: int) -> Any:
    if depth == 0:
        return "…"
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_text(k, 200): _storable(v, depth - 1) for k, v in value.items()}
    if isinstance(value, list):
        return [_storable(item, depth - 1) for item in value]
    return value


def _dump(value: Any) -> str:
    return json.dumps(_storable(value, MAX_DEPTH), ensure_ascii=False)


def _kind(value: object) -> str:
    if isinstance(value, list):
        return "list"
    return "text" if isinstance(value, str) else "number or constant"
