"""The benchmarks' own arithmetic, files and command line; nothing is measured here."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import report
from benchmarks.__main__ import Name, app, write
from benchmarks.figures import Bound, Figure, Peer, Scale, interleaved, percentile, slope

FIGURE = Figure(
    what="jobs of all kinds",
    value=300.04,
    unit="jobs/s",
    higher_is_better=True,
    jobs=10,
    threads=2,
    peers=[Peer("tortoise", 100.0, "on disk"), Peer("stone", 0.0, "none")],
    bounds=[Bound("over tortoise", 3.0, 2, at_least=True), Bound("p99, ms", 70.0, 60)],
    details={"p50, ms": 1.23456},
    series={"ours": [(0, 1.0)]},
)


def test_help_names_every_benchmark() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    assert [name for name in Name if name not in result.output] == []


@pytest.mark.parametrize("name", Name)
def test_every_name_is_a_module_that_runs(name: Name) -> None:
    assert callable(importlib.import_module(f"benchmarks.{name}").run)


def test_a_figure_is_written_as_json() -> None:
    found = json.loads(json.dumps(FIGURE.as_json()))
    assert found["value"] == 300.0
    assert (found["peer"], found["peer_value"], found["ratio"]) == ("tortoise", 100.0, 3.0)
    assert (found["peer_durability"], found["unit"]) == ("on disk", "jobs/s")
    assert "synchronous=FULL" in found["durability"]
    assert found["peers"][1]["ratio"] is None
    assert [bound["met"] for bound in found["bounds"]] == [True, False]


def test_a_figure_without_a_peer_has_the_same_keys() -> None:
    alone = Figure("it", 1.0, "s", higher_is_better=False, jobs=1, threads=1).as_json()
    assert (alone["peer"], alone["peer_value"], alone["ratio"]) == (None, None, None)
    assert alone.keys() == FIGURE.as_json().keys()


def test_a_file_keeps_what_other_runs_found(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    write(file, Name.MEMORY, {"value": 1})
    write(file, Name.DRAIN, {"value": 2})
    write(file, Name.MEMORY, {"value": 3})
    assert list(json.loads(file.read_text()).items()) == [
        ("drain", {"value": 2}),
        ("memory", {"value": 3}),
    ]


def test_the_page_gets_its_table_and_keeps_its_words(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.write_page({"drain": FIGURE.as_json()}, page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| `drain` | **300 jobs/s**" in text
    assert "over tortoise at least 2 (is 3): met" in text
    assert "p99, ms at most 60 (is 70): **not met**" in text


def test_a_page_without_a_place_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n")
    with pytest.raises(ValueError, match="no place for figures"):
        report.write_page({"drain": FIGURE.as_json()}, page)
    assert page.read_text() == "before\n"


def test_the_page_of_figures_has_a_command_for_each() -> None:
    text = report.PAGE.read_text()
    assert [name for name in Name if f"python -m benchmarks {name}" not in text] == []
    assert report.BEGIN in text
    assert report.END in text


def test_systems_take_turns() -> None:
    turns = iter(range(6))
    found = interleaved(3, {"ours": lambda: next(turns), "theirs": lambda: next(turns)})
    assert found == {"ours": [0, 2, 4], "theirs": [1, 3, 5]}


def test_scales_percentiles_and_slopes() -> None:
    assert (Scale(quick=True).pick(1, 2), Scale().pick(1, 2)) == (1, 2)
    assert percentile([7.0], 99) == 7.0
    assert percentile([float(n) for n in range(101)], 99) == 99.0
    assert slope([(0, 1), (10, 6)]) == 0.5
