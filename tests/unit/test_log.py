"""Who reads a warning at night is told what it means, and what to do."""

from __future__ import annotations

import ast
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from job_engine.log import JsonFormatter, RepeatFilter, TextFormatter, bound, get_logger
from job_engine.remedies import DEFECT, REMEDIES

ROOT = Path(__file__).parents[2]
ROOMS = ("job_engine", "actions", "distributor", "executor")
TROUBLE = {"warning", "error", "critical", "log"}
log = get_logger("tests.log")


def logged_events() -> Iterator[tuple[str, str]]:
    """(event, place) of each warning or error that the code logs without a traceback."""
    for file in (file for room in ROOMS for file in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=level)):
                    words = {keyword.arg for keyword in node.keywords}
                    if level in TROUBLE and (level == "log" or "exc_info" not in words):
                        texts = [a.value for a in node.args if isinstance(a, ast.Constant)]
                        yield str(texts[0]), f"{file.relative_to(ROOT)}:{node.lineno}"


def record(formatter: logging.Formatter, level: int, event: str, error: bool = False) -> str:
    handler = logging.StreamHandler(lines := io.StringIO())
    handler.setFormatter(formatter)
    log.logger.addHandler(handler)
    try:
        log.log(level, event, job="job/1", exc_info=ValueError("no") if error else None)
    finally:
        log.logger.removeHandler(handler)
    return lines.getvalue()


def test_every_warning_says_what_to_do() -> None:
    events = list(logged_events())
    assert len(events) > 15
    assert [(event, place) for event, place in events if event not in REMEDIES] == []


def test_no_remedy_is_for_an_event_that_nobody_logs() -> None:
    code = "\n".join(file.read_text() for room in ROOMS for file in (ROOT / room).rglob("*.py"))
    assert [event for event in REMEDIES if code.count(f'"{event}"') < 2] == []


def test_a_warning_ends_with_its_remedy_in_both_forms() -> None:
    line = record(TextFormatter(), logging.WARNING, "jobs.orphaned")
    assert line.rstrip().endswith(f"jobs.orphaned job=job/1 → {REMEDIES['jobs.orphaned']}")
    line = record(JsonFormatter(), logging.WARNING, "jobs.orphaned")
    assert json.loads(line)["remedy"] == REMEDIES["jobs.orphaned"]


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_an_error_without_a_remedy_is_called_a_defect(formatter: logging.Formatter) -> None:
    assert DEFECT in record(formatter, logging.ERROR, "unforeseen.failed", error=True)
    assert DEFECT not in record(formatter, logging.INFO, "unforeseen.failed")


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_an_error_that_carries_a_whole_file_fills_no_disk(formatter: logging.Formatter) -> None:
    handler = logging.StreamHandler(lines := io.StringIO())
    handler.setFormatter(formatter)
    log.logger.addHandler(handler)
    huge = "begin" + "x" * 3_000_000 + "end"
    try:
        raise ValueError(huge)
    except ValueError:
        log.exception("job.raised", error=huge)
    finally:
        log.logger.removeHandler(handler)
    text = lines.getvalue()
    assert len(text) < 30_000
    assert "begin" in text
    assert "end" in text
    assert "Traceback" in text


def test_the_same_trouble_is_said_once_in_a_while() -> None:
    now = 0.0
    repeats = RepeatFilter(30.0, lambda: now)

    def passes(message: str, at_s: float, level: int = logging.WARNING, **fields: object) -> bool:
        nonlocal now
        now = at_s
        # The wall clock is put back all the time, which must not matter.
        made = {"msg": message, "created": -3600 * at_s, "levelno": level, "fields": fields}
        return repeats.filter(logging.makeLogRecord(made))

    assert [passes("dropped", at_s) for at_s in (0.0, 1.0, 29.9, 30.0, 31.0)] == [
        *(True, False, False),
        *(True, False),
    ]
    assert passes("established", 31.0)
    assert [passes("refused", 31.0, job=job) for job in (1, 2, 1)] == [True, True, False]
    assert passes("claimed", 31.0, logging.INFO)
    assert passes("claimed", 31.0, logging.INFO)
    with bound(request_id="1"):
        assert passes("disk full", 32.0)
    with bound(request_id="2"):
        assert not passes("disk full", 32.0)


def test_a_library_that_cannot_connect_is_explained() -> None:
    kazoo = logging.makeLogRecord(
        {
            "name": "kazoo.client",
            "levelno": logging.WARNING,
            "msg": "Connection dropped: %s",
            "args": ("refused",),
        }
    )
    assert "JOB_ENGINE_ZK_HOSTS" in TextFormatter().format(kazoo)
