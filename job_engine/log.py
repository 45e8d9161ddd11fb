"""Logging: records with a stable `event` key and fields, for people or as JSON lines.

Modules log with `log = get_logger(__name__)` and `log.info("job.claimed", job=…)`. The first
argument is the event's name, which never changes once released; fields may be added.
`with bound(request_id=…)` adds fields to every record that is logged inside the block.
Warnings and errors end with their meaning and a remedy (`job_engine.remedies`), and an equal
one is logged once in `REPEATS_S`.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, Literal

from job_engine.remedies import DEFECT, LIBRARIES, REMEDIES

REPEATS_S: Final = 30.0
FIELD_CHARS: Final = 4000
TRACEBACK_CHARS: Final = 20_000
"""Longest field and traceback that are logged whole, in characters; errors may contain files."""
_bound: ContextVar[Mapping[str, Any] | None] = ContextVar("bound", default=None)


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Add fields to the records of this task, and of threads working for it, in the block."""
    token = _bound.set({**(_bound.get() or {}), **fields})
    try:
        yield
    finally:
        _bound.reset(token)


def bound_field(name: str) -> Any:
    """Return a field that `bound` has added in this context; None: there is none."""
    return (_bound.get() or {}).get(name)


class EventLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose message is an event's name and whose keywords are its fields."""

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Move the keywords to the record's attribute `fields`, which the formatters read."""
        passed = {k: kwargs.pop(k) for k in ("exc_info", "stack_info", "stacklevel") if k in kwargs}
        fields = dict(kwargs)
        kwargs.clear()
        return msg, {**passed, "extra": {"fields": fields}}


def get_logger(name: str) -> EventLogger:
    """Return the event logger of a module."""
    return EventLogger(logging.getLogger(name), {})


class TextFormatter(logging.Formatter):
    """`12:00:01.123 INFO  executor job.claimed job=job/… entry=entry-…`."""

    def format(self, record: logging.LogRecord) -> str:
        """Render one record as a line, with its traceback below."""
        at = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        fields = "".join(f" {k}={_text(v)}" for k, v in _fields(record).items())
        line = f"{at}Z {record.levelname:<7} {record.name} {record.getMessage()}{fields}"
        if (remedy := _remedy(record)) is not None:
            line += f" → {remedy}"
        return f"{line}\n{_traceback(self, record)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `at`, `level`, `logger`, `event`, the fields, and a `remedy`."""

    def format(self, record: logging.LogRecord) -> str:
        """Render one record as a JSON line."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
            **{name: _bounded(value) for name, value in _fields(record).items()},
        }
        if (remedy := _remedy(record)) is not None:
            line["remedy"] = remedy
        if record.exc_info:
            line["exception"] = _traceback(self, record)
        return json.dumps(line, default=str)


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    assert record.exc_info
    return cut(formatter.formatException(record.exc_info), TRACEBACK_CHARS)


def _bounded(value: Any) -> Any:
    return cut(value, FIELD_CHARS) if isinstance(value, str) else value


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    # Formatters run in the thread and context that logged the record.
    return {**getattr(record, "fields", {}), **(_bound.get() or {})}


def _remedy(record: logging.LogRecord) -> str | None:
    """Return the remedy for a warning or an error; None: there is none."""
    if record.levelno < logging.WARNING:
        return None
    message = record.getMessage()
    if hasattr(record, "fields"):
        return REMEDIES.get(message, DEFECT if record.exc_info else None)
    return next(
        (
            remedy
            for (logger, start), remedy in LIBRARIES.items()
            if record.name == logger and message.startswith(start)
        ),
        None,
    )


class RepeatFilter(logging.Filter):
    """Passes an equal warning or error once in `every_s` seconds.

    Otherwise an operation that is retried until an operator acts would fill the disk. Goes by a
    monotonic clock: a wall clock that is put back by an hour would silence it for that hour.
    """

    def __init__(self, every_s: float, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._every_s = every_s
        self._monotonic_s = monotonic_s
        self._lock = threading.Lock()
        self._logged_at: dict[str, float] = {}
        self._pruned_at = -math.inf

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter`."""
        if record.levelno < logging.WARNING:
            return True
        fields = _fields(record)
        if not record.exc_info:
            # The same error of many requests is one problem, but each traceback is a defect.
            fields.pop("request_id", None)
        line, now = f"{record.name} {record.getMessage()} {fields}", self._monotonic_s()
        with self._lock:
            if now - self._pruned_at >= self._every_s:
                self._logged_at = {
                    logged: at for logged, at in self._logged_at.items() if now - at < self._every_s
                }
                self._pruned_at = now
            if now - self._logged_at.get(line, float("-inf")) < self._every_s:
                return False
            self._logged_at[line] = now
            return True


def cut(text: str, most: int) -> str:
    """Return a text, with the middle of one longer than `most` characters replaced by a count."""
    if len(text) <= most:
        return text
    left_out = len(text) - most
    return f"{text[: most - most // 4]}… ({left_out:,} characters) …{text[-(most // 4) :]}"


def _text(value: Any) -> str:
    text = cut(str(value), FIELD_CHARS)
    # Hostile text (a student's file name) must not forge a line or drive a terminal.
    return json.dumps(text) if not text or not text.isprintable() or " " in text else text


def configure(level: str, style: Literal["text", "json"]) -> None:
    """Send all records of the process to standard error, in the given style."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    handler.addFilter(RepeatFilter(REPEATS_S))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("kazoo").setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.ERROR)
