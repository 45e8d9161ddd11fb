"""What students wrote cannot drive the terminal of who reads it."""

from __future__ import annotations

from job_engine.cli.text import clean, one_line


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
