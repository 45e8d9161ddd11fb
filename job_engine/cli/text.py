"""Writing text to a terminal safely, because students wrote some of it."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

_PIPE_WIDTH: Final = 240
"""Width of output that is not a terminal; rich's default of 80 would cut it."""

STATE_STYLES = {
    "QUEUED": "yellow",
    "RUNNING": "cyan",
    "SUCCESS": "green",
    "FAILED": "red",
    "CANCELED": "magenta",
}


def console() -> Console:
    """Standard output; colours only where it is a terminal."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return Console(highlight=False, markup=False, emoji=False, width=width)


def error_console() -> Console:
    """Standard error, for messages that must not mix with output for programs."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def clean(text: object) -> str:
    """Return text without terminal control characters; line ends and tabs are kept."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for char in str(text)
    )


def one_line(text: object, width: int = 60) -> str:
    """Return the first line of a text, cut to a width."""
    first = (clean(text).strip().splitlines() or [""])[0]
    return first if len(first) <= width else first[: width - 1] + "…"


def state(name: str, progress: int | None = None) -> Text:
    """Return a job's state in its colour, with its progress in percent where one is given."""
    shown = name if progress is None else f"{name} {progress}%"
    return Text(shown, style=STATE_STYLES.get(name, ""))


def age(seconds: float) -> str:
    """Return how long ago something was, in one unit: `14 s`, `3 min`, `5 h`, `12 d`."""
    for unit, unit_s, until_s in (("s", 1, 100), ("min", 60, 6000), ("h", 3600, 172_800)):
        if seconds < until_s:
            return f"{max(0, int(seconds)) // unit_s} {unit}"
    return f"{int(seconds) // 86_400} d"


def table(*columns: str) -> Table:
    """Return an empty table in the house's look; only its last column is folded (see `cut`)."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns[:-1]:
        made.add_column(column, no_wrap=True, overflow="fold")
    # Not no_wrap: of a table that is too wide, rich narrows the columns that may wrap first.
    made.add_column(columns[-1], overflow="fold")
    return made


def cut(text: str) -> Text:
    """Return a cell of a last column that is cut where the terminal ends, not folded."""
    return Text(text, no_wrap=True, overflow="ellipsis")


def print_json(value: Any) -> None:
    """Print a value for programs."""
    print(json.dumps(value, indent=2, sort_keys=True, default=str))
