"""What students wrote cannot drive the terminal of who reads it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from job_engine.cli.text import age, clean, cut, one_line, table


def test_control_characters_are_replaced() -> None:
    assert (
        clean("a\x1b[2Jb\r\x07")
        == "a\N{REPLACEMENT CHARACTER}[2Jb" + 2 * "\N{REPLACEMENT CHARACTER}"
    )
    assert clean("line\n\ttab é") == "line\n\ttab é"


def test_bidirectional_overrides_are_replaced() -> None:
    assert clean("\u202eevil") == "\N{REPLACEMENT CHARACTER}evil"


def test_one_line_is_cut() -> None:
    assert one_line("first\nsecond") == "first"
    assert one_line("x" * 100, width=10) == "x" * 9 + "…"
    assert one_line("") == ""


@pytest.mark.parametrize("columns", [72, 80, 100])
def test_a_narrow_terminal_cuts_the_message_and_never_the_id(columns: int) -> None:
    made = table("ID", "STATE", "MESSAGE")
    made.add_row("1449773f-d250-4e40-a71c-f0c52fbeea3e", "SUCCESS", cut("word " * 40))
    printed = io.StringIO()
    Console(file=printed, width=columns).print(made)
    _, row = printed.getvalue().splitlines()
    assert row.startswith("1449773f-d250-4e40-a71c-f0c52fbeea3e  SUCCESS  word")
    assert row.rstrip().endswith("…")
    assert len(row) <= columns


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-3, "0 s"), (99, "99 s"), (100, "1 min"), (6000, "1 h"), (172_800, "2 d")],
)
def test_an_age_is_in_one_unit(seconds: float, shown: str) -> None:
    assert age(seconds) == shown
