"""Putting text on a terminal, where some of it was written by students."""

from __future__ import annotations

import json
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

STATE_STYLES = {
    "QUEUED": "yellow",
    "RUNNING": "cyan",
    "SUCCESS": "green",
    "FAILED": "red",
    "CANCELED": "magenta",
}


def console() -> Console:
    """Standard output; colours only where it is a terminal."""
    return Console(highlight=False, markup=False, emoji=False)


def error_console() -> Console:
    """Standard error, for what must not get into output that programs read."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def clean(text: object) -> str:
    """Return text in which nothing can drive a terminal; line ends and tabs stay."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for char in str(text)
    )


def one_line(text: object, width: int = 60) -> str:
    """Return the first line of a text, cut to a width."""
    first = (clean(text).strip().splitlines() or [""])[0]
    return first if len(first) <= width else first[: width - 1] + "…"


def state(name: str) -> Text:
    """Return a job's state in its colour."""
    return Text(name, style=STATE_STYLES.get(name, ""))


def table(*columns: str, last: Literal["fold", "ellipsis"] = "fold") -> Table:
    """Return an empty table in the house's look; only its last column may be cut or folded."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns[:-1]:
        made.add_column(column, no_wrap=True, overflow="fold")
    made.add_column(columns[-1], no_wrap=last == "ellipsis", overflow=last)
    return made


def print_json(value: Any) -> None:
    """Print a value for programs."""
    print(json.dumps(value, indent=2, sort_keys=True, default=str))
