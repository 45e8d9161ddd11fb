"""Showing figures as a table on the terminal, and on a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Figure

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
BEGIN: Final = "<!-- figures: written by `python -m benchmarks.report FILE` -->"
END: Final = "<!-- end of figures -->"

Results = Mapping[str, Mapping[str, Any]]
"""`Figure.as_json()` by name, as `--json` writes it."""


def show(console: Console, name: str, figure: Figure) -> None:
    """Print one figure with its peers, bounds and details."""
    found = figure.as_json()
    table = Table("", figure.unit, "ours over it", "durability", title=f"{name}: {figure.what}")
    table.add_row("job engine", f"{found['value']:g}", "", figure.durability)
    for peer in found["peers"]:
        table.add_row(peer["peer"], f"{peer['value']:g}", _ratio(peer["ratio"]), peer["durability"])
    console.print(table)
    for bound in found["bounds"]:
        mark = "[green]met[/]" if bound["met"] else "[red]not met[/]"
        console.print(f"  {_bound(bound)}: {mark}")
    for what, value in found["details"].items():
        console.print(f"  [dim]{what}: {value}[/]", highlight=False)
    for lacking in figure.missing:
        console.print(f"  [yellow]Not compared: {lacking}[/]", highlight=False)
    console.print(f"  [dim]{figure.jobs:,} jobs, {figure.threads} threads[/]", highlight=False)


def rows(results: Results) -> str:
    """Return the page's table, and a line on the machine."""
    lines = [
        "| name | figure | peer | ratio | target |",
        "|---|---|---|---|---|",
    ]
    for name, found in results.items():
        peers = "<br>".join(f"{p['value']:g}, {p['peer']}" for p in found["peers"]) or "none"
        ratios = "<br>".join(_ratio(p["ratio"]) for p in found["peers"]) or ""
        targets = "<br>".join(
            f"{_bound(bound)}: {'met' if bound['met'] else '**not met**'}"
            for bound in found["bounds"]
        )
        scale = ", at quick scale" if found.get("quick") else ""
        value = (
            f"**{found['value']:g} {found['unit']}**<br>{found['what']}; "
            f"{found['jobs']:,} jobs{scale}"
        )
        lines.append(f"| `{name}` | {value} | {peers} | {ratios} | {targets} |")
    return "\n".join([*lines, "", *_machines(results)])


def write_page(results: Results, page: Path = PAGE) -> None:
    """Put the table of `results` into the page, between its two marks."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{page} has no place for figures: {BEGIN} … {END}")
    page.write_text(f"{before}{BEGIN}\n\n{rows(results)}\n\n{END}{after}")


def _machines(results: Results) -> list[str]:
    """Say once what everything was measured on, with the range of what differs."""
    notes = [found["machine"] for found in results.values() if found.get("machine")]
    if not notes:
        return []
    first = notes[0]
    fsyncs = [note["fsync_ms"] for note in notes]
    loads = [note["load_1min"] for note in notes]
    return [
        f"Measured on {first['cores']} cores ({first['cpu']}), Python {first['python']}, with "
        f"an fsync of {min(fsyncs):g} to {max(fsyncs):g} ms, under a load of "
        f"{min(loads):g} to {max(loads):g}, by what else ran, when each began."
    ]


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:g}"


def _bound(bound: Mapping[str, Any]) -> str:
    return f"{bound['what']} {bound['relation']} {bound['limit']:g} (is {bound['measured']:g})"


if __name__ == "__main__":
    import json
    import sys

    write_page(json.loads(Path(sys.argv[1]).read_text()))
