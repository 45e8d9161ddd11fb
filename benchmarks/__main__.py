"""`python -m benchmarks`: see its `--help`."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks import machine, plots, report
from benchmarks.figures import Figure, Scale
from tests.postgres import NoPostgresError, database, private_server, text_of


class Name(StrEnum):
    """The benchmarks; each is a module of this package."""

    CLAIM_FLAT = "claim_flat"
    DRAIN = "drain"
    LATENCY = "latency"
    BULK_CREATE = "bulk_create"
    IDLE_EXECUTORS = "idle_executors"
    MEMORY = "memory"
    FAIR_SHARE = "fair_share"
    WAIT_ESTIMATE = "wait_estimate"
    API_CREATE = "api_create"
    API_BULK_CREATE = "api_bulk_create"
    API_SEARCH = "api_search"
    VERDICT_WARM = "verdict_warm"
    VERDICT_COLD = "verdict_cold"
    SATURATION = "saturation"


app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command()
def main(
    names: Annotated[
        list[Name] | None, typer.Argument(help="What to measure; nothing: everything.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Less of everything: under a minute a name.")
    ] = False,
    results: Annotated[
        Path | None,
        typer.Option("--json", help="Write the figures to this file, beside those in it already."),
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option(
            help="Database of the benchmarks whose name begins with api, empty and for them "
            "alone: postgresql://…; by default SQLite, then a PostgreSQL server of their own."
        ),
    ] = None,
    charts: Annotated[
        Path | None, typer.Option("--plot", help="Write charts (SVG) into this directory.")
    ] = None,
) -> None:
    """Measure the engine beside its peers, in the same run.

    Each benchmark starts the servers it needs on loopback, takes turns between the
    engine and its peer, and stops them again: ZooKeeper (`default-jre-headless` and
    `libzookeeper-java`, or a release on the PATH), Redis (`redis-server`), PostgreSQL
    (`postgresql`; 15 is what the tests run on). The peers
    come with `pip install '.[bench]'`. A peer that is not installed is named,
    and our figure is given all the same.

    * **claim_flat**: a claim with a million jobs waiting, over one with a thousand
    * **drain**: no-op jobs a second through the whole engine
    * **latency**: from the 201 of a create to the action's first line
    * **bulk_create**: jobs created a second by one request
    * **idle_executors**: ZooKeeper reads for a job, with up to a thousand executors idle
    * **memory**: an executor's, at rest and after many jobs
    * **fair_share**: how soon small shares start behind a large one; throughput by weight
    * **wait_estimate**: how far the estimated waiting time is off
    * **api_create**: jobs created a second one by one, over one connection
    * **api_bulk_create**: jobs created a second by requests of many, by the API alone
    * **api_search**: a filtered, ordered page of 50 jobs out of a million
    * **verdict_warm**: a four-phase submission a second, from claim to verdict
    * **verdict_cold**: the same with no slot ready, over the bare runtime
    * **saturation**: four-phase submissions a second, always another one

    Machines are noisy: compare ratios of one run, and figures of different runs only
    when nothing else was running.

    `python -m benchmarks --quick drain latency` measures two of them in two minutes;
    `python -m benchmarks --json results.json --plot charts` takes about an hour.
    """
    console = Console()
    if charts is not None and not plots.available():
        raise typer.BadParameter(plots.REMEDY, param_hint="--plot")
    for name in names or list(Name):
        for url in databases(console, name, database_url):
            known = known_as(name, url)
            console.rule(known)
            note = machine.note()
            figure = measure(name, Scale(quick, url))
            report.show(console, known, figure)
            if results is not None:
                write(results, known, {**figure.as_json(), "quick": quick, "machine": note})
            if charts is not None:
                plots.plot(known, figure, charts)


def databases(console: Console, name: Name, given: str | None) -> Iterator[str | None]:
    """Yield the URLs to measure on, in turn; None: SQLite, or none that matters."""
    yield given
    if given is None and name.startswith("api"):
        try:
            with private_server(durable=True) as server, database(server) as url:
                yield text_of(url)
        except NoPostgresError as error:
            console.print(f"[yellow]{name} on PostgreSQL is left out:[/] {error}")


def measure(name: Name, scale: Scale) -> Figure:
    """Run one benchmark; only what it imports has to be installed."""
    found: Figure = importlib.import_module(f"benchmarks.{name}").run(scale)
    return found


def known_as(name: Name, database_url: str | None) -> str:
    """Return the name of a figure, which says so where it is another database's."""
    return name if database_url is None else f"{name}@{database_url.partition(':')[0]}"


def write(file: Path, name: str, found: dict[str, Any]) -> None:
    """Add a figure to the file, at once: a later one may fail."""
    known = json.loads(file.read_text()) if file.exists() else {}
    known[name] = found
    order = [str(n) for n in Name]
    known = dict(sorted(known.items(), key=lambda item: order.index(item[0].partition("@")[0])))
    file.write_text(json.dumps(known, indent=2) + "\n")


if __name__ == "__main__":
    app()
