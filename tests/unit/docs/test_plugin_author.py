"""The action on the plugin author's page is loaded and run exactly as it stands there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydantic import BaseModel

from job_engine.model import Job
from job_engine.plugins import Action, ActionFailedError, load_actions

PAGE = Path(__file__).parents[3] / "docs" / "plugin-author.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
T = TypeVar("T")


@dataclass
class Run:
    """A context for one run that nobody interrupts."""

    payload: Any
    said: list[str] = field(default_factory=list)
    resumed: bool = False

    @property
    def job(self) -> Job:
        raise NotImplementedError

    @property
    def scratch(self) -> Path:
        raise NotImplementedError

    def progress(self, percent: int, message: str | None = None) -> None:
        self.said.append(f"{percent} {message}")

    def log(self, text: str) -> None:
        self.said.append(text)

    def event(self, kind: str, data: Mapping[str, Any], *, staff: bool = False) -> None:
        self.said.append(f"{kind} {data}")

    def should_stop(self) -> bool:
        return False

    def sleep(self, seconds: float) -> None:
        raise NotImplementedError

    def need(self, kind: type[T]) -> T:
        raise NotImplementedError

    @contextmanager
    def lend(self, close: Callable[[], None]) -> Iterator[None]:
        yield


@pytest.fixture
def text() -> str:
    return str(BLOCK.findall(PAGE.read_text())[0])


@pytest.fixture
def action(text: str, tmp_path: Path) -> Action[Any]:
    (tmp_path / "count_words.py").write_text(text)
    return load_actions(tmp_path)["count_words"]


def run(action: Action[Any], payload: dict[str, Any]) -> tuple[Any, list[str]]:
    model: type[BaseModel] = action.payload
    context = Run(model.model_validate(payload))
    return action.run(context), context.said


def test_it_takes_less_than_twenty_lines(text: str) -> None:
    assert len(text.splitlines()) < 20


def test_it_does_what_the_page_says(action: Action[Any]) -> None:
    result, said = run(action, {"text": "one two three"})
    assert (result.message, result.output, result.return_code) == ("3 words", "3", 0)
    assert said == ["10 counting"]


def test_it_fails_with_a_message_for_people(action: Action[Any]) -> None:
    with pytest.raises(ActionFailedError, match="no words"):
        run(action, {"text": " "})


def test_every_whole_action_on_the_page_can_be_loaded(tmp_path: Path) -> None:
    whole = [block for block in BLOCK.findall(PAGE.read_text()) if "@action" in block]
    for number, block in enumerate(whole):
        (tmp_path / f"page_{number}.py").write_text(block)
    assert {"count_words", "run_c", "count_each"} <= set(load_actions(tmp_path))
