"""What the pages name exists: settings, files, commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from job_engine.cli.app import app
from job_engine.settings import (
    ApiSettings,
    ClientSettings,
    DistributorSettings,
    ExecutorSettings,
    UpSettings,
    variable_of,
)

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SETTINGS = (
    ApiSettings,
    ClientSettings,
    DistributorSettings,
    ExecutorSettings,
    UpSettings,
)
OTHER_VARIABLES = {
    "JOB_ENGINE_CONFIG",
    "JOB_ENGINE_MIRROR",
    "JOB_ENGINE_SHARD",
    "JOB_ENGINE_SHARDS",
}


def found(pattern: str) -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for match in re.finditer(pattern, page.read_text(), re.MULTILINE):
            yield str(page.relative_to(ROOT)), match[1]


def test_every_variable_is_a_setting() -> None:
    known = {variable_of(name) for kind in SETTINGS for name in kind.model_fields}
    named = set(found(r"\b(JOB_ENGINE_[A-Z_]+[A-Z])\b"))
    assert {pair for pair in named if pair[1] not in known | OTHER_VARIABLES} == set()


def test_every_link_leads_somewhere() -> None:
    dead = [
        (page, target)
        for page, target in found(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")
        if not (ROOT / page).parent.joinpath(target).exists()
    ]
    assert dead == []


def test_every_command_has_a_help() -> None:
    pattern = r"(?:^|`|\s)job-engine ((?:[a-z]+ )?[a-z]+)\b"
    groups = {"job", "assignment", "executor", "user", "credential", "share"}
    for page, words in set(found(pattern)):
        names = words.split()
        command = names[:2] if names[0] in groups else names[:1]
        result = CliRunner().invoke(app, [*command, "--help"])
        assert result.exit_code == 0, (page, words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_are_for_readers_only(page: Path) -> None:
    text = page.read_text()
    assert "/work/" not in text
    assert "TODO" not in text


def test_every_decision_is_listed() -> None:
    directory = ROOT / "docs" / "decisions"
    listed = (directory / "README.md").read_text()
    pages = [page.name for page in directory.glob("0*.md")]
    assert [name for name in pages if f"({name})" not in listed] == []
