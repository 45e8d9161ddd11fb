"""What docstrings and pages refer to exists: files, and sections of docs/cimi.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]
ROOMS: Final = ("job_engine", "actions", "distributor", "executor", "benchmarks", "tests")
_PATH: Final = re.compile(rf"`((?:{'|'.join(ROOMS)}|docs|scripts|examples)/[\w./-]+\.\w+)")
_SECTIONS: Final = re.compile(r"docs/cimi\.md((?:,? (?:to )?§\d+(?:\.\d+)?)+)")

_ELSEWHERE: Final = {"tests/remote.py", "docs/decisions/NNNN-a-few-words.md"}
"""A file of an assignment that a page shows, and a placeholder."""


def sources() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of every module and every page."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    modules = (path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
    for path in (*pages, *modules):
        yield str(path.relative_to(ROOT)), path.read_text()


def test_every_file_that_is_named_exists() -> None:
    named = [(page, path) for page, text in sources() for path in _PATH.findall(text)]
    assert named
    gone = {(page, path) for page, path in named if not (ROOT / path).exists()}
    assert {pair for pair in gone if pair[1] not in _ELSEWHERE} == set()


def test_every_module_on_the_map_exists() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    named = re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", page)
    assert named
    places = (ROOT, ROOT / "job_engine")
    assert [n for n in named if not any((place / n).exists() for place in places)] == []


def test_every_section_that_is_cited_exists() -> None:
    page = (ROOT / "docs" / "cimi.md").read_text()
    sections = set(re.findall(r"^#+ (§\d+(?:\.\d+)?) ", page, re.MULTILINE))
    cited = {
        (name, section)
        for name, text in sources()
        for group in _SECTIONS.findall(text)
        for section in re.findall(r"§\d+(?:\.\d+)?", group)
    }
    assert cited
    assert {pair for pair in cited if pair[1] not in sections} == set()
