"""What README claims is what was measured: its figures are those of the page on performance."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
NUMBER = r"[\d,]+(?:\.\d+)?"


def numbers(cell: str) -> list[str]:
    return [number.replace(",", "") for number in re.findall(NUMBER, cell)]


def rows(page: str) -> list[list[str]]:
    lines = (ROOT / page).read_text().splitlines()
    return [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]


def is_rounded(claim: str, measured: str) -> bool:
    digits = len(claim.partition(".")[2])
    return f"{float(measured):.{digits}f}" == claim


def test_every_figure_was_measured() -> None:
    measured = {row[0].strip("`"): row for row in rows("docs/performance.md") if len(row) == 5}
    claims = [row for row in rows("README.md") if len(row) == 4 and "**" in row[1]]
    assert len(claims) >= 5
    for _, ours, peers, name in claims:
        _, figure, peer, *_ = measured[name.strip("`")]
        assert is_rounded(numbers(ours)[0], numbers(figure.partition("**")[2])[0]), name
        # A page that lists several peers lists the one that README names.
        assert any(is_rounded(numbers(peers)[0], n) for n in numbers(peer)), name
