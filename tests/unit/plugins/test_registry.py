"""Actions are found by name, and a broken or doubled one stops the process."""

from __future__ import annotations

import re
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


HEAD = """
from __future__ import annotations
import sys
from dataclasses import dataclass
from pydantic import BaseModel
from job_engine.plugins import Action, Result, RetryPolicy, Schedule, action

class Item(BaseModel):
    n: int

class Items(BaseModel):
    items: list[Item]

@dataclass
class Kept:
    n: int

"""
FUNCTION = "def it(context): ..."


def test_a_payload_may_be_written_in_any_way(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f"{HEAD}@action('mine', payload=Items)\n{FUNCTION}\nb = it")
    schema = load_actions(tmp_path)["mine"].payload.model_json_schema()
    assert schema["properties"]["items"]["items"] == {"$ref": "#/$defs/Item"}


def test_a_base_without_a_name_and_a_file_with_an_underscore_are_passed_over(
    tmp_path: Path,
) -> None:
    (tmp_path / "_helper.py").write_text("1 / 0")
    (tmp_path / "mine.py").write_text(
        f"{HEAD}class Base(Action[Items]):\n    cost = 2.0\n"
        "class Mine(Base):\n    name = 'mine'\n    def run(self, context): ..."
    )
    assert load_actions(tmp_path)["mine"].cost == 2.0


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("sys.exit(3)", r"mine\.py, line 18: SystemExit\(3\)"),
        ("{}['x']", r"mine\.py, line 18: KeyError\('x'\)"),
        ("def it(context:\n    ...", r"mine\.py, line 18: '\(' was never closed"),
        (FUNCTION, "has no action"),
        (f"@action\n{FUNCTION}", r'line 18: .*@action\("count_words"\)'),
        ("@action('it')\ndef it(): ...", "line 18: .*one argument, the context"),
        ("@action('it')\nasync def it(context): ...", "is async"),
        ("@action('it')\nclass It: ...", "above a function"),
        (f"@action('a/b')\n{FUNCTION}", "'a/b' needs a name of letters"),
        (f"@action('it', payload=dict)\n{FUNCTION}", "derived from pydantic's BaseModel"),
        (f"@action('it', payload=Kept)\n{FUNCTION}", "derived from pydantic's BaseModel"),
        (f"@action('it', timeout_s='60')\n{FUNCTION}", "timeout_s='60'"),
        (f"@action('it', timeout_s=0)\n{FUNCTION}", "timeout_s=0"),
        (f"@action('it', timeout_s=float('inf'))\n{FUNCTION}", "timeout_s=inf"),
        (f"@action('it', retry=3)\n{FUNCTION}", "has to be a RetryPolicy"),
        (f"@action('it', retry_away=3)\n{FUNCTION}", "retry_away=3, which has to be a RetryPolicy"),
        (f"@action('it', retry=RetryPolicy(max_attempts=0))\n{FUNCTION}", "max_attempts=0"),
        (f"@action('it', retry=RetryPolicy(jitter=2))\n{FUNCTION}", "from 0 to 1"),
        (f"@action('it', short='no')\n{FUNCTION}", "short='no'"),
        (f"@action('it', needs=Item)\n{FUNCTION}", "tuple of classes"),
        (f"@action('it', schedule='0 3 * * *')\n{FUNCTION}", "has to be a Schedule"),
        (f"@action('it', schedule=Schedule(cron='0 3 * *'))\n{FUNCTION}", "cron line of five"),
        (f"@action('it', schedule=Schedule(cron='61 3 * * *'))\n{FUNCTION}", "cron line of five"),
        (f"@action('it', schedule=Schedule(interval_s=0))\n{FUNCTION}", "interval_s=0"),
        (
            f"@action('it', payload=Items, schedule=Schedule(interval_s=60))\n{FUNCTION}",
            "a payload that may not be empty",
        ),
        ("class It(Action[Items]):\n    name = 'it'", "cannot be made: .*abstract method"),
        ("class It(Action[Items]):\n    def run(self, context): ...", "no action with a name"),
    ],
)
def test_a_mistake_stops_the_start_and_is_named(tmp_path: Path, code: str, told: str) -> None:
    (tmp_path / "mine.py").write_text(HEAD + code)
    with pytest.raises(PluginError, match=r"mine\.py") as raised:
        load_actions(tmp_path)
    assert re.search(told, raised.value.message), raised.value.message
