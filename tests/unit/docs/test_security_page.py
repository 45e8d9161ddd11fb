"""The page on security names every kind of hostile program, and every hole."""

from __future__ import annotations

from pathlib import Path

from tests.hostile.corpus.holes import HOLES
from tests.hostile.corpus.rows import PROGRAMS, load

PAGE = (Path(__file__).parents[3] / "docs" / "security.md").read_text()


def test_every_kind_of_program_is_on_the_page() -> None:
    kinds = {file.name for file in PROGRAMS.glob("*.yaml")}
    assert {kind for kind in kinds if f"`{kind}`" not in PAGE} == set()


def test_every_hole_is_on_the_page_and_has_its_programs() -> None:
    assert {name for name in HOLES if f"`{name}`" not in PAGE} == set()
    assert {program for hole in HOLES.values() for program in hole.programs} <= set(load())


def test_the_corpus_is_large() -> None:
    assert len(load()) >= 80
