"""Actions are found by name, and a broken or doubled one stops the process."""

from __future__ import annotations

from pathlib import Path

import pytest

from job_engine.errors import PluginError
from job_engine.plugins import load_actions

ACTION = """
from job_engine.plugins import action

@action({name!r})
def anything(context):
    "Do nothing."
"""


def test_the_bundled_actions_are_there_and_named_after_their_files() -> None:
    actions = load_actions()
    assert {"noop", "cleanup_jobs"} <= set(actions)
    for name, action in actions.items():
        assert type(action).__module__ == f"actions.{name}"


def test_a_directory_adds_actions(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(ACTION.format(name="mine"))
    assert "mine" in load_actions(tmp_path)


def test_a_name_registered_twice_names_both_files(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(ACTION.format(name="noop"))
    with pytest.raises(PluginError, match=r"(?s)noop\.py.*mine\.py"):
        load_actions(tmp_path)


def test_a_file_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nothing_of_this_name")
    with pytest.raises(PluginError, match=r"broken\.py"):
        load_actions(tmp_path)
