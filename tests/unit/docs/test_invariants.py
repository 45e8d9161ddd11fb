"""docs/invariants.md and the breaks say the same, and every break still has its place."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
BREAKS: list[dict[str, Any]] = yaml.safe_load((ROOT / "tests/invariants/breaks.yaml").read_text())
PAGE = (ROOT / "docs/invariants.md").read_text()
SECTIONS = dict(re.findall(r"^## ([a-z-]+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def test_every_named_invariant_has_a_section_and_a_break() -> None:
    architecture = (ROOT / "docs/architecture.md").read_text()
    table = architecture.partition("## Invariants")[2].partition("\n## ")[0]
    named = re.findall(r"^\| ([a-z-]+-[a-z-]+|fenced) \|", table, re.MULTILINE)
    assert len(named) == 11
    assert list(SECTIONS) == named
    assert {b["invariant"] for b in BREAKS} == set(named)


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_lists_its_breaks_and_their_tests(name: str) -> None:
    rows = set(re.findall(r"^\| ([^|]+?) \| `([^`|]+)` \| `([^`|]+)` \|$", SECTIONS[name], re.M))
    assert rows == {(b["name"], b["file"], b["test"]) for b in BREAKS if b["invariant"] == name}


@pytest.mark.parametrize("broken", BREAKS, ids=lambda b: str(b["name"]))
def test_a_break_still_applies_and_its_test_is_there(broken: dict[str, Any]) -> None:
    text = (ROOT / broken["file"]).read_text()
    assert text.count(broken["old"]) == 1
    ast.parse(text.replace(broken["old"], broken["new"]))
    path, _, test = broken["test"].partition("::")
    assert f"def {test}(" in (ROOT / path).read_text()
